/* pahi: one-step text-to-image from a bundle of pahi-rt, in C.
 *
 * Every function that can fail returns a pahi_status; pahi_last_error() has the text of this thread's last failure.
 * A pipeline may draw in several threads at once. Structs begin with their size, which pahi_*_init sets to the size in
 * this header: later versions can add fields, and programs compiled with this header still work. Callbacks must not
 * throw. Text is UTF-8.
 */
#ifndef PAHI_H
#define PAHI_H

#include <stddef.h>
#include <stdint.h>

/* The version of this header; pahi_version() is the library's. */
#define PAHI_VERSION_MAJOR 0
#define PAHI_VERSION_MINOR 2
#define PAHI_VERSION_PATCH 0

#define PAHI_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pahi_pipeline pahi_pipeline;

typedef enum pahi_status {
  PAHI_OK = 0,
  PAHI_BAD_ARGUMENT = 1, /* a null pointer, a struct of an unknown size, a buffer that is too small, ... */
  PAHI_BAD_PROMPT = 2,   /* blank, not UTF-8, of more than 1,000,000 characters, or without anything that the model can
                          * read */
  PAHI_BAD_BUNDLE = 3,   /* a file is missing, damaged, of another version, or lacks what was asked for */
  PAHI_RUNTIME_ERROR = 4, /* ONNX Runtime, TensorRT or CUDA refused to load or to draw */
  PAHI_CANCELLED = 5,    /* the progress callback returned a value other than 0 */
  PAHI_OUT_OF_MEMORY = 6
} pahi_status;

typedef enum pahi_log_level { PAHI_LOG_INFO = 0, PAHI_LOG_WARNING = 1, PAHI_LOG_ERROR = 2 } pahi_log_level;

/* Receives messages of the library, and its runtime's warnings and errors. `text` is valid during the call. Calls may
 * come from any thread. */
typedef void (*pahi_log_callback)(void *user, pahi_log_level level, const char *text);

/* Called after each picture, in the thread that called pahi_draw. Any return value other than 0 ends the request with
 * PAHI_CANCELLED. */
typedef int (*pahi_progress_callback)(void *user, uint32_t done, uint32_t total);

typedef struct pahi_options {
  size_t struct_size;
  uint32_t steps;        /* denoising steps (default: 1) */
  const char *prior;     /* "pahi", "hi" or "gaussian"; NULL: the bundle's best */
  const char *precision; /* such as "fp32"; NULL: the bundle's first */
  const char *runtime;   /* "onnxruntime" (NULL: the same), or what the library was built with: "tensorrt" or
                          * "tensorrt-rtx", which draw on the current GPU of the thread that calls pahi_open */
  uint32_t threads;      /* CPU threads, at most 1024; 0: one for each physical core */
  pahi_log_callback log; /* NULL: no messages */
  void *log_user;
} pahi_options;

typedef struct pahi_request {
  size_t struct_size;
  const char *prompt;   /* what does not fit into the model's number of tokens is cut off without notice */
  uint64_t seed;        /* seed of the first picture; the others use seed + 1, ... */
  uint32_t count;       /* number of pictures (default: 1) */
  float prior_strength; /* 0..1; below 0: all of the prior, if there is one */
  pahi_progress_callback progress;
  void *progress_user;
} pahi_request;

/* Fill in the defaults and the size of the struct. */
#define pahi_options_init(options) pahi_options_init_sized((options), sizeof *(options))
#define pahi_request_init(request) pahi_request_init_sized((request), sizeof *(request))
PAHI_API void pahi_options_init_sized(pahi_options *options, size_t size);
PAHI_API void pahi_request_init_sized(pahi_request *request, size_t size);

/* Opens the bundle in the folder `path`. `options` may be NULL for the defaults. Every file that it uses is checked
 * against the manifest's size and sha256, and must not be a link. The graph is checked against the rules of
 * docs/bundle.md, "What a bundle may do"; docs/embedding.md says which of the other rules are not checked.
 * While the pipeline is open its weights stay mapped: do not write to the bundle's files.
 * If it fails, *pipeline is NULL, unless `path` or `pipeline` is NULL itself. */
PAHI_API pahi_status pahi_open(const char *path, const pahi_options *options, pahi_pipeline **pipeline);
/* Closes a pipeline. No thread may still draw with it. The pointer is not valid afterwards: closing it twice is
 * undefined, as with free(). NULL is allowed. */
PAHI_API void pahi_close(pahi_pipeline *pipeline);

/* The size of a picture in pixels. */
PAHI_API pahi_status pahi_image_size(const pahi_pipeline *pipeline, uint32_t *width, uint32_t *height);

/* Fills `rgb` with count * height * width * 3 bytes, picture after picture, row after row. If it fails or is cancelled,
 * the pictures that were finished before stay in `rgb`, and the rest of it is undefined. */
PAHI_API pahi_status pahi_draw(pahi_pipeline *pipeline, const pahi_request *request, uint8_t *rgb, size_t size);

/* Writes the token ids of a prompt, at most `capacity` of them. *count is set to their number, which is the same for
 * all prompts: shorter ones are padded, longer ones cut off. */
PAHI_API pahi_status pahi_tokenize(const pahi_pipeline *pipeline, const char *prompt, int64_t *ids, size_t capacity,
                                   size_t *count);

/* The text of this thread's last failure; empty if there was none. Valid until the thread's next call. It is one line
 * that is safe to print: control characters, which a bundle's names may hold, are shown as escapes (\x1b). */
PAHI_API const char *pahi_last_error(void);
PAHI_API const char *pahi_version(void);

#ifdef __cplusplus
}
#endif
#endif
