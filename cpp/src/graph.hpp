// An ONNX graph, read before a runtime sees it: what it may ask for is bounded, and no file but its weights is opened.
#pragma once

#include <string_view>

#include "manifest.hpp"

namespace pahi {

// `model` is the whole file of `graph`. The rules are those of docs/bundle.md, "What a bundle may do". Throws
// Error(PAHI_BAD_BUNDLE) that says what is not allowed.
void check_graph(std::string_view model, const Graph &graph, const Manifest &manifest);

}  // namespace pahi
