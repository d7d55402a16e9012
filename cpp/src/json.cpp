#include "json.hpp"

#include <functional>
#include <unordered_set>
#include <vector>

#include "error.hpp"

namespace pahi {
namespace {

using Json = nlohmann::json;

constexpr int kDeepest = 32;  // objects and lists in one another

class Strict {
 public:
  explicit Strict(const std::string &name) : name_(name) {}

  bool operator()(int depth, Json::parse_event_t event, const Json &parsed) {
    if (depth > kDeepest) fail("it is nested too deeply");
    if (event == Json::parse_event_t::object_start) keys_.emplace_back();
    if (event == Json::parse_event_t::object_end) keys_.pop_back();
    if (event == Json::parse_event_t::key && !keys_.back().insert(parsed.get<std::string>()).second) {
      fail("the key " + parsed.dump() + " is there twice");
    }
    return true;
  }

 private:
  [[noreturn]] void fail(const std::string &why) const { throw Error(PAHI_BAD_BUNDLE, name_ + " cannot be read: " + why); }

  const std::string &name_;
  std::vector<std::unordered_set<std::string>> keys_;  // of the objects that are open
};

}  // namespace

Json parse_json(std::string_view text, const std::string &name) {
  Strict strict(name);
  return Json::parse(text, std::ref(strict));
}

std::int64_t read_integer(const Json &value, std::int64_t least, std::int64_t most) {
  const bool fits = value.is_number_integer() && !(value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX);
  const std::int64_t number = fits ? value.get<std::int64_t>() : least - 1;
  if (number < least || number > most) {
    throw Error(PAHI_BAD_BUNDLE, value.dump() + " makes no sense where a number from " + std::to_string(least) + " to " +
                                     std::to_string(most) + " is due");
  }
  return number;
}

}  // namespace pahi
