#include "session.hpp"

#include <string>

#include "error.hpp"

namespace pahi {

std::unique_ptr<Session> open_session(const std::filesystem::path &folder, const Manifest &manifest,
                                      const Graph &graph, const pahi_options &options) {
  const std::string runtime = options.runtime == nullptr ? "onnxruntime" : options.runtime;
  if (runtime == "onnxruntime") return open_onnxruntime(folder, manifest, graph, options);
#ifdef PAHI_TENSORRT
  if (runtime == PAHI_TENSORRT) return open_tensorrt(folder, manifest, graph, options);
#endif
  throw Error(PAHI_BAD_ARGUMENT, "this library was built without the runtime " + runtime);
}

}  // namespace pahi
