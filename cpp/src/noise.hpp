// Seeded Gaussian noise: noise recipe `philox-boxmuller-1` of docs/noise.md, the same numbers as in Python.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pahi {

inline constexpr const char *kNoiseRecipe = "philox-boxmuller-1";

std::vector<float> draw_noise(std::uint64_t seed, std::size_t count);

}  // namespace pahi
