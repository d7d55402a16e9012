#include "noise.hpp"

#include <array>
#include <cmath>

namespace pahi {
namespace {

using Words = std::array<std::uint32_t, 4>;

// Philox4x32 with ten rounds (Salmon et al., 2011).
Words philox(Words counter, std::uint32_t key0, std::uint32_t key1) {
  for (int turn = 0; turn < 10; ++turn) {
    const std::uint64_t first = std::uint64_t{counter[0]} * 0xD2511F53u;
    const std::uint64_t second = std::uint64_t{counter[2]} * 0xCD9E8D57u;
    counter = {static_cast<std::uint32_t>(second >> 32) ^ counter[1] ^ key0, static_cast<std::uint32_t>(second),
               static_cast<std::uint32_t>(first >> 32) ^ counter[3] ^ key1, static_cast<std::uint32_t>(first)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

double to_uniform(std::uint32_t word) { return (word + 0.5) * 0x1p-32; }

}  // namespace

std::vector<float> draw_noise(std::uint64_t seed, std::size_t count) {
  constexpr double kPi = 3.141592653589793;
  std::vector<float> noise;
  noise.reserve(count + 3);
  for (std::uint32_t block = 0; noise.size() < count; ++block) {
    const Words words =
        philox({block, 0, 0, 0}, static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
    for (int pair = 0; pair < 4; pair += 2) {
      const double radius = std::sqrt(-2.0 * std::log(to_uniform(words[pair])));
      const double angle = 2.0 * kPi * to_uniform(words[pair + 1]);
      noise.push_back(static_cast<float>(radius * std::cos(angle)));
      noise.push_back(static_cast<float>(radius * std::sin(angle)));
    }
  }
  noise.resize(count);
  return noise;
}

}  // namespace pahi
