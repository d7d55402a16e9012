/* pahi: one-step text-to-image from a bundle of pahi-rt, in C.
 *
 * Every function that can fail returns a pahi_status; pahi_last_error() has the text of this thread's last failure.
 * A pipeline may draw in several threads at once. Structs begin with their size, which pahi_*_init sets to what this
 * header says, so that later versions can add fields and programs compiled with this one go on working. Callbacks must
 * not throw. Text is UTF-8.
 */
#ifndef PAHI_H
#define PAHI_H

#include <stddef.h>
#include <stdint.h>

#define PAHI_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pahi_pipeline pahi_pipeline;

typedef enum pahi_status {
  PAHI_OK = 0,
  PAHI_BAD_ARGUMENT = 1, /* a null pointer, a struct of no known size, a buffer that is too small, ... */
  PAHI_BAD_PROMPT = 2,   /* blank, no UTF-8, or with nothing in it that the model can read */
  PAHI_BAD_BUNDLE = 3,   /* a file is missing, damaged, of another version, or lacks what was asked for */
  PAHI_RUNTIME_ERROR = 4, /* ONNX Runtime, TensorRT or CUDA refused to load or to draw */
  PAHI_CANCELLED = 5,    /* the progress callback said so */
  PAHI_OUT_OF_MEMORY = 6
} pahi_status;

typedef enum pahi_log_level { PAHI_LOG_INFO = 0, PAHI_LOG_WARNING = 1, PAHI_LOG_ERROR = 2 } pahi_log_level;

/* What the library has to say, its runtime's warnings and errors included; `text` is valid during the call, which may
 * come from any thread. */
typedef void (*pahi_log_callback)(void *user, pahi_log_level level, const char *text);

/* After each picture; what is not 0 ends the request with PAHI_CANCELLED. */
typedef int (*pahi_progress_callback)(void *user, uint32_t done, uint32_t total);

typedef struct pahi_options {
  size_t struct_size;
  uint32_t steps;        /* denoising steps: 1 */
  const char *prior;     /* "pahi", "hi" or "gaussian"; NULL: the bundle's best */
  const char *precision; /* such as "fp32"; NULL: the bundle's first */
  const char *runtime;   /* "onnxruntime", or what the library was built with: "tensorrt" or "tensorrt-rtx", which draw on
                          * the current GPU of the thread that opens; NULL: "onnxruntime" */
  uint32_t threads;      /* of the CPU, at most 1024; 0: one for each physical core */
  pahi_log_callback log; /* NULL: silence */
  void *log_user;
} pahi_options;

typedef struct pahi_request {
  size_t struct_size;
  const char *prompt;
  uint64_t seed;        /* of the first picture; the others have the next ones */
  uint32_t count;       /* pictures: 1 */
  float prior_strength; /* 0..1; below 0: all of the prior, if there is one */
  pahi_progress_callback progress;
  void *progress_user;
} pahi_request;

/* Fill in what is usual, and the struct's size. */
#define pahi_options_init(options) pahi_options_init_sized((options), sizeof *(options))
#define pahi_request_init(request) pahi_request_init_sized((request), sizeof *(request))
PAHI_API void pahi_options_init_sized(pahi_options *options, size_t size);
PAHI_API void pahi_request_init_sized(pahi_request *request, size_t size);

/* Opens the bundle in the folder `path`; NULL for the usual options. Every file that it uses is checked against the
 * manifest's size and sha256, and the graph for what it may ask for: docs/bundle.md, "What a bundle may do". While the
 * pipeline is open its weights stay mapped: do not write to the bundle's files. */
PAHI_API pahi_status pahi_open(const char *path, const pahi_options *options, pahi_pipeline **pipeline);
/* Ends a pipeline that no thread draws with any more. Once only: the pointer is not valid afterwards, and closing it again
 * is undefined, as with free(). NULL is fine. */
PAHI_API void pahi_close(pahi_pipeline *pipeline);

/* Pixels of a picture. */
PAHI_API pahi_status pahi_image_size(const pahi_pipeline *pipeline, uint32_t *width, uint32_t *height);

/* Fills `rgb` with count * height * width * 3 bytes, picture after picture, row after row. */
PAHI_API pahi_status pahi_draw(pahi_pipeline *pipeline, const pahi_request *request, uint8_t *rgb, size_t size);

/* The token ids that a prompt becomes, as many as *count says on return; at most `capacity` are written. */
PAHI_API pahi_status pahi_tokenize(const pahi_pipeline *pipeline, const char *prompt, int64_t *ids, size_t capacity,
                                   size_t *count);

/* Of this thread; valid until its next call. Empty if nothing has failed. One line that is safe to print: control
 * characters, as a bundle's names may hold them, are shown as escapes (\x1b). */
PAHI_API const char *pahi_last_error(void);
PAHI_API const char *pahi_version(void);

#ifdef __cplusplus
}
#endif
#endif
