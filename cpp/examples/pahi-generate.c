/* pahi-generate BUNDLE PROMPT [-o FILE.png] [-n COUNT] [--seed N] [--steps N] [--prior KIND] [--strength 0..1]
 *               [--precision NAME] [--runtime NAME] [--threads N]
 *
 * Several pictures come below one another in one file. It ends with 1 if it cannot draw, and with 2 if it was called
 * wrongly. */

#include <ctype.h>
#include <errno.h>
#include <pahi.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PICTURES = 100, WRONG_USE = 2 };

static int fail(const char *what) {
  fprintf(stderr, "error: %s\n", what);
  return EXIT_FAILURE;
}

static void check_usage(int is_right, const char *what, const char *option) {
  if (is_right) return;
  fprintf(stderr, "error: %s %s\n", what, option);
  exit(WRONG_USE);
}

/* strtoull alone takes "-1", " 1", "1e3" and "". */
static uint64_t read_number(const char *option, const char *text, uint64_t least, uint64_t most) {
  char *end;
  unsigned long long number;
  errno = 0;
  number = strtoull(text, &end, 10);
  if (isdigit((unsigned char)text[0]) && *end == '\0' && errno == 0 && number >= least && number <= most) return number;
  fprintf(stderr, "error: a whole number from %llu to %llu is due after %s\n", (unsigned long long)least,
          (unsigned long long)most, option);
  exit(WRONG_USE);
}

static float read_strength(const char *option, const char *text) {
  char *end;
  const float strength = strtof(text, &end);
  check_usage(end != text && *end == '\0' && strength >= 0 && strength <= 1, "a number from 0 to 1 is due after",
              option);
  return strength;
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
  size = (size_t)width * height * 3 * request->count;
  rgb = malloc(size);
  if (rgb == NULL) return fail("out of memory");
  result = pahi_draw(pipeline, request, rgb, size) == PAHI_OK ? write_png(path, rgb, width, height * request->count)
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
  if (argc < 3) {
    fputs("usage: pahi-generate BUNDLE PROMPT [-o FILE.png] [-n COUNT] [--seed N] [--steps N] ...\n", stderr);
    return WRONG_USE;
  }
  for (i = 3; i < argc; i += 2) {
    const char *option = argv[i], *value = argv[i + 1];
    check_usage(value != NULL, "a value is missing after", option);
    if (strcmp(option, "-o") == 0) path = value;
    else if (strcmp(option, "-n") == 0) request.count = (uint32_t)read_number(option, value, 1, MOST_PICTURES);
    else if (strcmp(option, "--seed") == 0) request.seed = read_number(option, value, 0, UINT64_MAX);
    else if (strcmp(option, "--strength") == 0) request.prior_strength = read_strength(option, value);
    else if (strcmp(option, "--steps") == 0) options.steps = (uint32_t)read_number(option, value, 1, UINT32_MAX);
    else if (strcmp(option, "--prior") == 0) options.prior = value;
    else if (strcmp(option, "--precision") == 0) options.precision = value;
    else if (strcmp(option, "--runtime") == 0) options.runtime = value;
    else if (strcmp(option, "--threads") == 0) options.threads = (uint32_t)read_number(option, value, 0, UINT32_MAX);
    else check_usage(0, "there is no option", option);
  }
  request.prompt = argv[2];
  if (pahi_open(argv[1], &options, &pipeline) != PAHI_OK) return fail(pahi_last_error());
  result = generate(pipeline, &request, path);
  pahi_close(pipeline);
  if (result == EXIT_SUCCESS) puts(path);
  return result;
}
