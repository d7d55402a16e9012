"""Draw with OpenAI's client from `pahi-rt serve`.

pahi-rt serve
python openai_client.py http://127.0.0.1:8000/v1 "a grinning cat" cat
"""

from __future__ import annotations

import base64
import sys

import openai


def main(url: str, prompt: str, stem: str) -> None:
    with openai.OpenAI(base_url=url, api_key="any") as client:
        print("models:", ", ".join(model.id for model in client.models.list()))
        reply = client.images.generate(model="emoji", prompt=prompt, n=2, extra_body={"seed": 7, "prior_strength": 0.5})
        for number, image in enumerate(reply.data or ()):
            path = f"{stem}-{number}.png"
            with open(path, "wb") as file:
                file.write(base64.b64decode(image.b64_json or ""))
            print(path)
        try:
            client.images.generate(model="emoji", prompt=" ")
        except openai.BadRequestError as error:  # what is wrong, and what to do about it, in the reply
            print("refused:", error.body["message"] if isinstance(error.body, dict) else error)


if __name__ == "__main__":
    main(*sys.argv[1:])
