// The reader and writer of JSON, and SHA-256, by what their standards give as examples.
#include "json/json.hpp"

#include <cmath>
#include <limits>
#include <string>

#include "check.hpp"
#include "json/write.hpp"
#include "sha256.hpp"

namespace {

using namespace nicrt;
using json::Document;
using json::Kind;

std::unique_ptr<const Document> parsed(std::string text, const json::Limits& limits = {}) {
    std::unique_ptr<const Document> document;
    const Status status = Document::parse(std::move(text), limits, document);
    CHECK(status.ok() == (document != nullptr));
    CHECK(status.ok() || status.code() == Code::unsupported);
    return document;
}

/// What is read from a text, written again.
std::string again(std::string text) {
    const auto document = parsed(std::move(text));
    CHECK(document != nullptr);
    return json::text_of(document->root());
}

void refused(const std::string& text) { CHECK(parsed(text) == nullptr); }

void check_values() {
    CHECK(again(" { \"a\" : [ 1 , -0 , true , false , null , \"\" ] , \"b\" : { } } ") ==
          R"({"a":[1,0,true,false,null,""],"b":{}})");
    CHECK(again("123456789012345678901234567890") == "123456789012345678901234567890");
    CHECK(again(R"("\u0041\u00e9\u20AC\ud83d\ude00\n\/\"\\\u0000")") == "\"Aé€😀\\n/\\\"\\\\\\u0000\"");
    CHECK(again("[]") == "[]");
    for (const char* const text : {"",
                                   " ",
                                   "[",
                                   "[1",
                                   "[1,",
                                   "[1,]",
                                   "[,1]",
                                   "[1 2]",
                                   "{",
                                   "{\"a\"",
                                   "{\"a\":",
                                   "{\"a\":1",
                                   "{\"a\":1,}",
                                   "{a:1}",
                                   "{1:1}",
                                   "{\"a\" 1}",
                                   "1 2",
                                   "tru",
                                   "nul",
                                   "+1",
                                   ".5",
                                   "1.",
                                   "01",
                                   "-",
                                   "1e",
                                   "1e+",
                                   "NaN",
                                   "Infinity",
                                   "'a'",
                                   "\"a",
                                   "\"\\",
                                   "\"\\x\"",
                                   "\"\\u12\"",
                                   "\"\\u12g4\"",
                                   "\"\n\"",
                                   "\"\x01\"",
                                   "// a\n1",
                                   "\xEF\xBB\xBF"
                                   "1"})
        refused(text);
    CHECK(parsed(std::string("1\0", 2)) == nullptr);
}

void check_texts() {
    CHECK(again("\"\x7F\xC3\xA9\xF4\x8F\xBF\xBF\"") == "\"\x7F\xC3\xA9\xF4\x8F\xBF\xBF\"");
    for (const char* const text :
         {"\"\x80\"", "\"\xC0\x80\"", "\"\xC3\"", "\"\xE0\x80\x80\"", "\"\xED\xA0\x80\"",
          "\"\xF0\x80\x80\x80\"", "\"\xF4\x90\x80\x80\"", "\"\xFF\"", R"("\ud83d")", R"("\ude00\ud83d")",
          R"("\ud83d\u0041")", R"("\ud83dA")"})
        refused(text);
}

void check_twins() {
    refused(R"({"a":1,"a":1})");
    refused(R"({"a":1,"b":{"c":1,"d":2,"\u0063":3}})");
    CHECK(parsed(R"({"a":1,"b":{"a":1},"A":2})") != nullptr);
}

void check_limits() {
    const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
    CHECK(parsed(nested(64)) != nullptr);
    CHECK(parsed(nested(65)) == nullptr);
    CHECK(parsed(std::string(1 << 20, '[')) == nullptr);
    std::string many = "[0";
    for (int i = 0; i < 10000; ++i) many += ",0";
    many += "]";
    CHECK(parsed(many, {64, 1 << 20}) != nullptr);
    CHECK(parsed(many, {64, 1 << 16}) == nullptr);
    CHECK(parsed("0." + std::string(1000, '1')) != nullptr);
    CHECK(parsed(std::string(1025, '1')) == nullptr);
}

void check_number(const char* text, double value) {
    const auto document = parsed(text);
    CHECK(document != nullptr);
    const auto read = json::to_real(document->root());
    CHECK(read && *read == value && std::signbit(*read) == std::signbit(value));
    const auto twice = parsed(json::text_of(value));
    CHECK(twice != nullptr && twice->root().kind == Kind::real && json::to_real(twice->root()) == value);
}

void check_numbers() {
    check_number("0", 0);
    check_number("-0", 0);  // an integer
    check_number("-0.0", -0.0);
    check_number("1.5", 1.5);
    check_number("-12.25e1", -122.5);
    check_number("0.1", 0.1);
    check_number("1e-5", 1e-5);
    check_number("123456789.0123456789e-20", 123456789.0123456789e-20);
    check_number("9007199254740993", 9007199254740992.0);
    check_number("1.7976931348623157e308", std::numeric_limits<double>::max());
    check_number("4.9e-324", std::numeric_limits<double>::denorm_min());
    check_number("1e-400", 0);
    check_number("0e99999999999999999999", 0);
    check_number("1000000000000000000000000000000000000000e-39", 1);
    const auto huge = parsed("[1e309, -1e309, 1e99999999999999999999]");
    for (const auto& number : huge->root().array()) CHECK(!json::to_real(number));
    const auto whole = parsed("[9223372036854775807, -9223372036854775808, 9223372036854775808, 1.0]");
    CHECK(json::to_integer(whole->root().array()[0]) == INT64_MAX);
    CHECK(json::to_integer(whole->root().array()[1]) == INT64_MIN);
    CHECK(!json::to_integer(whole->root().array()[2]) && !json::to_integer(whole->root().array()[3]));
    CHECK(json::text_of(42.5) == "42.5" && json::text_of(100.0) == "100.0" && json::text_of(-0.0) == "-0.0");
    CHECK(json::text_of(0.001) == "0.001" && json::text_of(1e-7) == "1e-7" &&
          json::text_of(-1.5e300) == "-1.5e300");
}

void check_sha256() {
    const auto hash = [](std::string_view text) {
        Sha256 sha;
        sha.update(text);
        return sha.hex_digest();
    };
    CHECK(hash("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    const std::string million(1000000, 'a');
    CHECK(hash(million) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    for (std::size_t cut = 0; cut < 200; ++cut) {  // in two parts, around every block's edge
        Sha256 sha;
        sha.update(std::string_view(million).substr(0, cut));
        sha.update(std::string_view(million).substr(cut, 200 - cut));
        CHECK(sha.hex_digest() == hash(std::string_view(million).substr(0, 200)));
    }
}

}  // namespace

int main() {
    check_values();
    check_texts();
    check_twins();
    check_limits();
    check_numbers();
    check_sha256();
}
