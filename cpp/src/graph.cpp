#include "graph.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "error.hpp"
#include "protobuf.hpp"

namespace pahi {
namespace {

constexpr std::size_t kMostNodes = 100'000;
constexpr std::size_t kMostInitializers = 100'000;
constexpr std::uint64_t kMostFields = 4'000'000;  // protobuf fields of all messages
constexpr std::size_t kMostDimensions = 16;
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 33;  // of a tensor
constexpr std::uint64_t kMostValuesPerByte = 8;  // if not stored as raw bytes; runtimes check the exact number

// Messages and fields of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, without those that are refused.
const Fields kModel{{tag(1, kNumber), tag(2), tag(3), tag(4), tag(5, kNumber), tag(6), tag(7)}, {tag(8), tag(14)}};
constexpr std::uint32_t kGraphOfModel = tag(7), kOpsetOfModel = tag(8);
const Fields kOpset{{tag(1), tag(2, kNumber)}, {}};
const Fields kGraph{{tag(2), tag(10)}, {tag(1), tag(5), tag(11), tag(12), tag(13), tag(16)}};
constexpr std::uint32_t kNodeOfGraph = tag(1), kInitializer = tag(5), kInput = tag(11), kOutput = tag(12);
const Fields kNode{{tag(3), tag(4), tag(6), tag(7)}, {tag(1), tag(2), tag(5), tag(9)}};
constexpr std::uint32_t kAttributeOfNode = tag(5), kDomain = tag(7);
const Fields kAttribute{{tag(1), tag(2, kFourBytes), tag(3, kNumber), tag(4), tag(5), tag(13), tag(20, kNumber)},
                        {tag(7, kFourBytes), tag(7), tag(8, kNumber), tag(8), tag(9)}};
constexpr std::uint32_t kTensorOfAttribute = tag(5), kTypeOfAttribute = tag(20, kNumber);
const Fields kTensor{{tag(2, kNumber), tag(8), tag(9), tag(12), tag(14, kNumber)},
                     {tag(1, kNumber), tag(1), tag(4, kFourBytes), tag(4), tag(5, kNumber), tag(5), tag(7, kNumber),
                      tag(7), tag(10, kEightBytes), tag(10), tag(11, kNumber), tag(11), tag(13), tag(16)}};
constexpr std::uint32_t kDim = tag(1, kNumber), kDims = tag(1), kDataType = tag(2, kNumber), kRawData = tag(9),
                        kExternalData = tag(13), kDataLocation = tag(14, kNumber);
const Fields kEntry{{tag(1), tag(2)}, {}};
const Fields kValue{{tag(1), tag(2), tag(3)}, {tag(4)}};
constexpr std::uint32_t kNameOfValue = tag(1), kTypeOfValue = tag(2);
const Fields kType{{tag(1), tag(6)}, {}};  // tensors only: neither sequences nor maps
constexpr std::uint32_t kTensorOfType = tag(1);
const Fields kTensorType{{tag(1, kNumber), tag(2)}, {}};
constexpr std::uint32_t kElementType = tag(1, kNumber), kShapeOfType = tag(2);
const Fields kShape{{}, {tag(1)}};
const Fields kDimension{{tag(1, kNumber), tag(2), tag(3)}, {}};
constexpr std::uint32_t kSize = tag(1, kNumber);

using Sizes = std::map<std::string, std::uint64_t, std::less<>>;  // bytes of the files that values may come from

// Bytes of a value; 0 for types that are refused: text, complex numbers, and types of less than a byte.
std::uint64_t width(std::uint64_t data_type) {
  constexpr std::uint64_t kWidths[] = {0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8, 0, 0, 2};
  return data_type < std::size(kWidths) ? kWidths[data_type] : 0;
}

std::uint64_t bytes_of(const std::vector<std::uint64_t> &dims, std::uint64_t data_type) {
  if (width(data_type) == 0) throw Malformed("a tensor has the data type " + std::to_string(data_type));
  if (dims.size() > kMostDimensions) throw Malformed("a tensor has too many dimensions");
  std::uint64_t size = width(data_type);
  bool is_empty = false;
  for (const std::uint64_t dim : dims) {
    is_empty |= dim == 0;
    if (dim > kMostBytes || (dim > 0 && size > kMostBytes / dim)) throw Malformed("a tensor is too large");
    if (dim > 0) size *= dim;
  }
  return is_empty ? 0 : size;
}

std::uint64_t read_decimal(std::string_view text) {
  constexpr std::size_t kMostDigits = 15;
  std::uint64_t value = 0;
  bool fits = !text.empty() && text.size() <= kMostDigits;
  for (const char digit : text) {
    fits = fits && digit >= '0' && digit <= '9';
    if (fits) value = value * 10 + static_cast<std::uint64_t>(digit - '0');
  }
  if (!fits) throw Malformed("a tensor's offset or length is not a number");
  return value;
}

// A tensor's message, and where it says that its values are.
struct Tensor {
  std::vector<std::uint64_t> dims;
  std::uint64_t data_type = 0, location = 0;
  std::optional<std::size_t> raw;
  bool has_typed = false;
  std::vector<std::string_view> entries;
};

// A text of the graph, for a message.
std::string quote(std::string_view text) { return "'" + printable(text.substr(0, 80)) + "'"; }

// What a graph says of an input or output.
struct Value {
  std::string_view name;
  std::uint64_t type = 0;  // 0: none, or no tensor
  bool has_shape = false;
  std::vector<std::optional<std::uint64_t>> shape;  // with the batch; empty for sizes that are not given
};

// Whether a value can be the input or output that pahi.json says. Sizes that are not given fit: the runtime finds them.
bool fits(const Value &value, const Port &port) {
  bool does = value.name == port.name && value.type == port.type;
  if (does && value.has_shape) does = value.shape.size() == port.shape.size() + 1;
  for (std::size_t i = 1; does && i < value.shape.size(); ++i) {
    does = !value.shape[i] || *value.shape[i] == static_cast<std::uint64_t>(port.shape[i - 1]);
  }
  return does;
}

// Throws Malformed unless the values are these inputs or outputs, in any order.
void check_values(const std::vector<Value> &values, const std::vector<Port> &ports) {
  std::set<std::string_view> seen;
  for (const Value &value : values) {
    const bool is_new = seen.insert(value.name).second;
    const auto is_it = [&](const Port &port) { return fits(value, port); };
    if (!is_new || std::none_of(ports.begin(), ports.end(), is_it)) {
      throw Malformed("its " + quote(value.name) + " is not what pahi.json says");
    }
  }
  if (values.size() < ports.size()) throw Malformed("it lacks inputs or outputs that pahi.json says");
}

// The sizes of files by the names that the graph uses, relative to its own folder.
Sizes sizes_of(const Graph &graph, const Manifest &manifest) {
  const std::string folder = graph.file.substr(0, graph.file.rfind('/') + 1);
  Sizes sizes;
  for (const std::string &name : graph.weights) sizes[name.substr(folder.size())] = manifest.file(name).size;
  return sizes;
}

// All methods throw Malformed for anything that is not allowed.
class GraphReader {
 public:
  GraphReader(const Graph &graph, const Manifest &manifest)
      : wire_(kMostFields),
        sizes_(sizes_of(graph, manifest)),
        inputs_(manifest.inputs(graph)),
        outputs_(manifest.outputs()) {}

  void check_model(std::string_view model) {
    if (model.size() >= 8 && model.substr(4, 4) == "ORTM") {
      throw Malformed("ONNX Runtime would take it for its own format");
    }
    std::optional<std::string_view> graph;
    wire_.each(model, kModel, [&](const Field &field) {
      if (field.tag == kGraphOfModel) graph = field.bytes;
      if (field.tag == kOpsetOfModel) check_opset(field.bytes);
    });
    if (!graph) throw Malformed("it holds no graph");
    check_graph(*graph);
  }

 private:
  void check_graph(std::string_view graph) {
    std::size_t nodes = 0, initializers = 0;
    std::vector<Value> inputs, outputs;
    wire_.each(graph, kGraph, [&](const Field &field) {
      if (field.tag == kNodeOfGraph) {
        if (++nodes > kMostNodes) throw Malformed("it has too many nodes");
        check_node(field.bytes);
      } else if (field.tag == kInitializer) {
        if (++initializers > kMostInitializers) throw Malformed("it has too many tensors");
        check_tensor(field.bytes, sizes_);
      } else if (field.tag == kInput) {
        inputs.push_back(read_value(field.bytes));
      } else if (field.tag == kOutput) {
        outputs.push_back(read_value(field.bytes));
      }
    });
    check_values(inputs, inputs_);
    check_values(outputs, outputs_);
  }

  void check_opset(std::string_view opset) {
    wire_.each(opset, kOpset, [](const Field &field) {
      if (field.tag == tag(1)) check_domain(field.bytes);
    });
  }

  void check_node(std::string_view node) {
    wire_.each(node, kNode, [&](const Field &field) {
      if (field.tag == kDomain) check_domain(field.bytes);
      if (field.tag != kAttributeOfNode) return;
      wire_.each(field.bytes, kAttribute, [&](const Field &part) {
        if (part.tag == kTensorOfAttribute) check_tensor(part.bytes, {});
        if (part.tag == kTypeOfAttribute) check_attribute_type(part.number);
      });
    });
  }

  // Allowed are float, int, string, tensor, and lists of the first three: no graphs.
  static void check_attribute_type(std::uint64_t type) {
    const bool is_known = (type >= 1 && type <= 4) || (type >= 6 && type <= 8);
    if (!is_known) throw Malformed("an attribute has the type " + std::to_string(type));
  }

  static void check_domain(std::string_view domain) {
    if (domain.empty() || domain == "ai.onnx") return;
    throw Malformed("it has operators of the domain " + quote(domain));
  }

  Tensor read_tensor(std::string_view message) {
    Tensor read;
    wire_.each(message, kTensor, [&](const Field &field) {
      switch (field.tag) {
        case kDim: read.dims.push_back(field.number); break;
        case kDims: wire_.each_number(field.bytes, [&](std::uint64_t dim) { read.dims.push_back(dim); }); break;
        case kDataType: read.data_type = field.number; break;
        case kRawData: read.raw = field.bytes.size(); break;
        case kExternalData: read.entries.push_back(field.bytes); break;
        case kDataLocation: read.location = field.number; break;
        case tag(8): case tag(12): case tag(16): break;  // name, doc_string, metadata_props
        default: read.has_typed = true;
      }
    });
    return read;
  }

  void check_tensor(std::string_view message, const Sizes &sizes) {
    constexpr std::uint64_t kExternal = 1;
    const Tensor tensor = read_tensor(message);
    const std::uint64_t size = bytes_of(tensor.dims, tensor.data_type);
    if (tensor.location == kExternal && !tensor.raw && !tensor.has_typed) return check_place(tensor.entries, size, sizes);
    if (tensor.location != 0 || !tensor.entries.empty()) throw Malformed("a tensor's values lie in two places");
    if (tensor.raw && (*tensor.raw != size || tensor.has_typed)) throw Malformed("a tensor has not the bytes of its shape");
    if (size / kMostValuesPerByte / width(tensor.data_type) > message.size()) {
      throw Malformed("a tensor has fewer values than its shape says");
    }
  }

  // Checks that values of `size` bytes lie inside one of the files.
  void check_place(const std::vector<std::string_view> &entries, std::uint64_t size, const Sizes &sizes) {
    std::map<std::string_view, std::string_view> place;
    for (const std::string_view entry : entries) {
      std::string_view key, value;
      wire_.each(entry, kEntry, [&](const Field &field) { (field.tag == tag(1) ? key : value) = field.bytes; });
      place[key] = value;
    }
    if (entries.size() != 3 || !place.count("location") || !place.count("offset") || !place.count("length")) {
      throw Malformed("a tensor's place in a file has other keys than location, offset and length");
    }
    const auto file = sizes.find(place["location"]);
    if (file == sizes.end()) {
      throw Malformed("a tensor lies in " + quote(place["location"]) +
                      ", which the manifest does not list as its weights");
    }
    const std::uint64_t offset = read_decimal(place["offset"]), length = read_decimal(place["length"]);
    if (length != size || offset + size > file->second) throw Malformed("a tensor reaches past the end of " + file->first);
  }

  Value read_value(std::string_view message) {
    Value read;
    wire_.each(message, kValue, [&](const Field &field) {
      if (field.tag == kNameOfValue) read.name = field.bytes;
      if (field.tag != kTypeOfValue) return;
      wire_.each(field.bytes, kType, [&](const Field &kind) {
        if (kind.tag == kTensorOfType) read_type(kind.bytes, read);
      });
    });
    return read;
  }

  void read_type(std::string_view message, Value &read) {
    wire_.each(message, kTensorType, [&](const Field &field) {
      if (field.tag == kElementType) read.type = field.number;
      if (field.tag != kShapeOfType) return;
      read.has_shape = true;
      wire_.each(field.bytes, kShape, [&](const Field &size) { read.shape.push_back(read_size(size.bytes)); });
    });
  }

  std::optional<std::uint64_t> read_size(std::string_view dimension) {
    std::optional<std::uint64_t> size;
    wire_.each(dimension, kDimension, [&](const Field &field) {
      if (field.tag == kSize) size = field.number;
    });
    return size;
  }

  WireReader wire_;
  Sizes sizes_;
  std::vector<Port> inputs_, outputs_;
};

}  // namespace

void check_graph(std::string_view model, const Graph &graph, const Manifest &manifest) {
  try {
    GraphReader(graph, manifest).check_model(model);
  } catch (const Malformed &error) {
    throw Error(PAHI_BAD_BUNDLE, graph.file + " is not a graph that this version reads: " + error.what());
  }
}

}  // namespace pahi
