/* pahi-generate BUNDLE PROMPT -o FILE.png [--seed N] [--steps N] [--prior KIND] [--runtime NAME]
 *               [--threads N] */

#include <pahi.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what) {
  fprintf(stderr, "error: %s\n", what);
  return EXIT_FAILURE;
}

static int write_png(const char *path, const uint8_t *rgb, uint32_t width, uint32_t height) {
  png_image image;
  memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  image.width = width;
  image.height = height;
  image.format = PNG_FORMAT_RGB;
  return png_image_write_to_file(&image, path, 0, rgb, 0, NULL) ? EXIT_SUCCESS : fail(image.message);
}

static int generate(pahi_pipeline *pipeline, const pahi_request *request, const char *path) {
  uint32_t width, height;
  uint8_t *rgb;
  size_t size;
  int result;
  if (pahi_image_size(pipeline, &width, &height) != PAHI_OK) return fail(pahi_last_error());
  size = (size_t)width * height * 3;
  rgb = malloc(size);
  if (rgb == NULL) return fail("out of memory");
  result = pahi_draw(pipeline, request, rgb, size) == PAHI_OK ? write_png(path, rgb, width, height)
                                                              : fail(pahi_last_error());
  free(rgb);
  return result;
}

int main(int argc, char **argv) {
  const char *path = "out.png";
  pahi_pipeline *pipeline = NULL;
  pahi_options options;
  pahi_request request;
  int i, result;
  pahi_options_init(&options);
  pahi_request_init(&request);
  if (argc < 3) return fail("usage: pahi-generate BUNDLE PROMPT [-o FILE.png] [--seed N] [--steps N] ...");
  for (i = 3; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "-o") == 0) path = argv[i + 1];
    else if (strcmp(argv[i], "--seed") == 0) request.seed = strtoull(argv[i + 1], NULL, 10);
    else if (strcmp(argv[i], "--steps") == 0) options.steps = (uint32_t)strtoul(argv[i + 1], NULL, 10);
    else if (strcmp(argv[i], "--prior") == 0) options.prior = argv[i + 1];
    else if (strcmp(argv[i], "--runtime") == 0) options.runtime = argv[i + 1];
    else if (strcmp(argv[i], "--threads") == 0) options.threads = (uint32_t)strtoul(argv[i + 1], NULL, 10);
    else return fail("there is no such option");
  }
  if (i < argc) return fail("an option lacks its value");
  request.prompt = argv[2];
  if (pahi_open(argv[1], &options, &pipeline) != PAHI_OK) return fail(pahi_last_error());
  result = generate(pipeline, &request, path);
  pahi_close(pipeline);
  if (result == EXIT_SUCCESS) puts(path);
  return result;
}
