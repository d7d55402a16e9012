// Checks of an ONNX graph before a runtime sees it: its demands are bounded, and it opens no file except its weights.
#pragma once

#include <string_view>

#include "manifest.hpp"

namespace pahi {

// Checks `model`, the whole file of `graph`, by the rules of docs/bundle.md, "What a bundle may do". Throws
// Error(PAHI_BAD_BUNDLE) that says what is not allowed.
void check_graph(std::string_view model, const Graph &graph, const Manifest &manifest);

}  // namespace pahi
