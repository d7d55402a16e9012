"""The errors that a user can fix. Each says what is wrong and how to fix it.

    PahiError                what + fix; the CLI prints both and exits 1
    |- BundleError           missing, corrupt, tampered or too new
    |- RequestError          a request cannot be drawn, such as a prior strength of 2
    |  |- PromptError        a prompt or a list of prompts cannot be used
    |  '- NoiseError         a seed outside 0 .. 2**64 - 1
    |- HubError              a repository of the Hugging Face hub cannot be had
    |- RuntimeUnavailable    a runtime cannot be loaded, or fails, on this machine
    |- ModelError            a generator, an autoencoder or a prior cannot be loaded, or its parts do not fit
    |- ScorerError           a model of human preference cannot be loaded, or gives no usable scores
    |- RecipeError           a setting of a training is missing, unknown or out of range
    |- RunError              a run of `train` or `bulk` cannot begin, go on or be evaluated
    |- ReportError           a file does not hold the report that it is read as
    |- OutputError           a result cannot be written
    '- ParityError           an exported graph does not agree with PyTorch

Any other exception that leaves this library is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

from functools import partial


class PahiError(Exception):
    """A problem that the user can fix: `what` is wrong, and the `fix` for it.

    try:
        picture = Pipeline.load("emoji")("a red apple")
    except PahiError as error:
        print(error.what, error.fix)
    """

    def __init__(self, what: str, *, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what} (fix: {self.fix})"

    def __reduce__(self) -> tuple[partial[PahiError], tuple[str]]:
        """Pickled as it was made, so that one process can tell another of it."""
        return partial(type(self), fix=self.fix), (self.what,)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python or PyTorch found too little memory. PyTorch, which need not be there, is known by its words."""
    words = ("DefaultCPUAllocator: can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and any(word in str(error) for word in words))


class BundleError(PahiError):
    """A bundle is missing, corrupt, tampered with, or newer than this version reads."""


class RequestError(PahiError):
    """A request cannot be drawn: its prompt, its seed, or the strength of its prior."""


class PromptError(RequestError):
    """A prompt, or a file of prompts, cannot be used."""


class NoiseError(RequestError):
    """A seed or a shape from which no noise can be drawn."""


class HubError(PahiError):
    """A repository of the Hugging Face hub, or a revision of it, cannot be had."""


class RuntimeUnavailable(PahiError):
    """The runtime that was asked for cannot be loaded on this machine, or fails while it draws."""


class ModelError(PahiError):
    """A generator, an autoencoder or a prior cannot be loaded, or its parts do not fit each other."""


class ScorerError(PahiError):
    """A model of human preference cannot be loaded, or gives no usable scores."""


class RecipeError(PahiError):
    """A setting of a training is missing, unknown or out of range."""


class RunError(PahiError):
    """A run of `train` or `bulk` cannot begin, go on, or be evaluated or verified."""


class ReportError(PahiError):
    """A file does not hold the report that it is read as."""


class OutputError(PahiError):
    """A result cannot be written where it was asked for."""


class ParityError(PahiError):
    """An exported graph does not agree with the PyTorch model that it came from."""
