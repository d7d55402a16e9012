/* One seed without and with the learned prior, side by side, as a PPM file.
 *
 *   cc pair.c -o pair $(pkg-config --cflags --libs pahi)
 *   ./pair path/to/emoji "a grinning cat" pair.ppm
 */

#include <pahi.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(void) {
  fprintf(stderr, "error: %s\n", pahi_last_error());
  return EXIT_FAILURE;
}

int main(int argc, char **argv) {
  pahi_pipeline *pipeline = NULL;
  pahi_request request;
  uint32_t width, height, row, side;
  uint8_t *halves[2];
  FILE *file;
  if (argc != 4) return fputs("usage: pair BUNDLE PROMPT FILE.ppm\n", stderr), EXIT_FAILURE;
  if (pahi_open(argv[1], NULL, &pipeline) != PAHI_OK) return fail();
  if (pahi_image_size(pipeline, &width, &height) != PAHI_OK) return fail();
  for (side = 0; side < 2; side++) {
    pahi_request_init(&request);
    request.prompt = argv[2];
    request.seed = 7;
    request.prior_strength = (float)side; /* 0: standard Gaussian noise; 1: all of the prior */
    halves[side] = malloc((size_t)width * height * 3);
    if (halves[side] == NULL) return fputs("error: out of memory\n", stderr), EXIT_FAILURE;
    if (pahi_draw(pipeline, &request, halves[side], (size_t)width * height * 3) != PAHI_OK) return fail();
  }
  if ((file = fopen(argv[3], "wb")) == NULL) return perror(argv[3]), EXIT_FAILURE;
  fprintf(file, "P6 %u %u 255\n", 2 * width, height);
  for (row = 0; row < height; row++)
    for (side = 0; side < 2; side++) fwrite(halves[side] + (size_t)row * width * 3, 3, width, file);
  for (side = 0; side < 2; side++) free(halves[side]);
  pahi_close(pipeline);
  return fclose(file) == 0 ? EXIT_SUCCESS : (perror(argv[3]), EXIT_FAILURE);
}
