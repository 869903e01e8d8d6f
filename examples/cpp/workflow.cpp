// The whole workflow from C++17, with the sockets of POSIX. Prepare FOLDER as docs/how-to/any-language.md says.
//
//   g++ -std=c++17 -o workflow examples/cpp/workflow.cpp && ./workflow FOLDER
//
// C++ has no HTTP and no JSON library of its own: here are small ones. A real program uses the libraries that it has.

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

using std::string;

/// The server refused a request.
struct Refused : std::runtime_error {
    using std::runtime_error::runtime_error;
};

string environment(const char* name, const string& otherwise = "") {
    const char* value = std::getenv(name);
    return value ? value : otherwise;
}

void check(bool condition, const string& problem) {
    if (!condition) throw std::runtime_error(problem);
}

/// The first text, number or boolean with this name in some JSON; empty if there is none.
string value(const string& json, const string& name) {
    size_t begin = json.find("\"" + name + "\":");
    if (begin == string::npos) return "";
    begin += name.size() + 3;
    if (json[begin] != '"') return json.substr(begin, json.find_first_of(",}", begin) - begin);
    string text;
    for (size_t i = begin + 1; i < json.size() && json[i] != '"'; i++) {
        if (json[i] != '\\') text += json[i];
        else text += json[++i] == 'n' ? '\n' : json[i];
    }
    return text;
}

/// A connection to the server of TFSERVE_URL.
class Connection {
public:
    Connection() {
        string url = environment("TFSERVE_URL", "http://127.0.0.1:8000");
        size_t colon = url.rfind(':');
        check(url.rfind("http://", 0) == 0 && colon > 6, "expected http://host:port, got " + url);
        string name = url.substr(7, colon - 7), port = std::to_string(std::atoi(url.c_str() + colon + 1));
        host = name + ":" + port;
        addrinfo hints{}, *found = nullptr;
        hints.ai_socktype = SOCK_STREAM;
        check(getaddrinfo(name.c_str(), port.c_str(), &hints, &found) == 0, "unknown host " + host);
        for (addrinfo* each = found; each && descriptor < 0; each = each->ai_next) {
            descriptor = socket(each->ai_family, each->ai_socktype, each->ai_protocol);
            if (descriptor >= 0 && connect(descriptor, each->ai_addr, each->ai_addrlen) != 0) disconnect();
        }
        freeaddrinfo(found);
        check(descriptor >= 0, url + " does not respond");
    }
    Connection(const Connection&) = delete;
    ~Connection() { disconnect(); }

    void write(const string& bytes) const {
        for (size_t sent = 0; sent < bytes.size();) {
            ssize_t count = send(descriptor, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
            check(count > 0, "the connection was lost");
            sent += count;
        }
    }

    /// The next bytes; empty at the end.
    string read() const {
        char buffer[65536];
        ssize_t count = recv(descriptor, buffer, sizeof buffer, 0);
        return string(buffer, count > 0 ? count : 0);
    }

    string host;

private:
    void disconnect() {
        if (descriptor >= 0) close(descriptor);
        descriptor = -1;
    }

    int descriptor = -1;
};

struct Response {
    string head, body;

    /// `name` in lower case.
    int header(const string& name) const {
        string lower = head;
        std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char each) { return std::tolower(each); });
        size_t found = lower.find("\r\n" + name + ":");
        check(found != string::npos, "no header " + name);
        return std::stoi(lower.substr(found + name.size() + 3));
    }
};

using OnLine = std::function<bool(const string&)>;

/// Sends a request. Throws the server's message on errors. `on_line` gets each line, until it returns false.
/// HTTP 1.0, because its responses end with the connection: without chunks.
Response request(const string& method, const string& path, const string& body = "", const string& headers = "",
                 const OnLine& on_line = nullptr) {
    Connection connection;
    string token = environment("TFSERVE_TOKEN");
    string authorization = token.empty() ? "" : "Authorization: Bearer " + token + "\r\n";
    connection.write(method + " " + path + " HTTP/1.0\r\nHost: " + connection.host + "\r\n" + authorization + headers +
                     "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    Response response;
    for (string piece; !(piece = connection.read()).empty();) {
        response.body += piece;
        size_t end = response.head.empty() ? response.body.find("\r\n\r\n") : string::npos;
        if (end != string::npos) {
            response.head = response.body.substr(0, end + 2);
            response.body.erase(0, end + 4);
        }
        for (size_t line; on_line && !response.head.empty() && (line = response.body.find('\n')) != string::npos;) {
            if (!on_line(response.body.substr(0, line))) return response;
            response.body.erase(0, line + 1);
        }
    }
    check(response.head.size() > 12, "the connection was lost");
    string status = response.head.substr(9, 3);
    if (status != "200") {
        string message = value(response.body, "message"); // in v1, v2 and training, `error` is the message
        throw Refused("status " + status + ": " + (message.empty() ? value(response.body, "error") : message));
    }
    return response;
}

string post(const string& path, const string& json) {
    return request("POST", path, json, "Content-Type: application/json\r\n").body;
}

/// A request of the workspace API. A job that failed is a request that succeeded, so its error is checked, too.
string call(const string& path, const string& json) {
    string response = post(path, json);
    check(response.find("\"error\":{") == string::npos, path + " failed: " + value(response, "message"));
    return response;
}

/// Prints the output of a job or training while it runs. Returns its final state.
string follow(const string& path) {
    string state;
    request("GET", path, "", "Accept: text/event-stream\r\n", [&](const string& line) {
        if (line.rfind("data: ", 0) == 0) {
            state = value(line, "state");
            string text = value(line, "text");
            std::istringstream lines(text);
            for (string each; std::getline(lines, each);) std::cout << "  " << each << std::endl;
        }
        return state.empty();
    });
    check(!state.empty(), "the stream ended before the job");
    return state;
}

string push(const string& name, const string& script) {
    return call("/push_job/", R"({"name": ")" + name + R"(", "type": 1, "timeout": 0, "job": ")" + script + "\"}");
}

void deploy(const string& name, const string& path) {
    call("/deploy/", R"({"name": ")" + name + R"(", "timeout": 120, "path": ")" + path + "\"}");
}

/// The request and the response have little-endian bytes after the JSON. This processor is little-endian, too.
std::vector<float> predict_binary(const string& name) {
    string head = R"({"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}],
                      "outputs": [{"name": "y", "parameters": {"binary_data": true}}]})";
    const float numbers[] = {1, 2, 3, 4};
    string body = head + string(reinterpret_cast<const char*>(numbers), sizeof numbers);
    string length = "inference-header-content-length";
    string headers = length + ": " + std::to_string(head.size()) + "\r\n";
    Response response = request("POST", "/v2/models/" + name + "/infer", body, headers);
    string tensor = response.body.substr(response.header(length));
    std::vector<float> found(tensor.size() / sizeof(float));
    std::memcpy(found.data(), tensor.data(), found.size() * sizeof(float));
    return found;
}

string classify(const string& name, const string& path) {
    std::ifstream file(path, std::ios::binary);
    check(file.good(), "can't read " + path);
    string photo{std::istreambuf_iterator<char>(file), {}};
    return value(request("POST", "/v1/models/" + name + ":predict", photo, "Content-Type: image/png\r\n").body, "label");
}

/// State and model of a training, after it has ended.
string train(const string& project) {
    string id = value(post("/tasks/", R"({"userId": "me", "projectId": "digits", "projectDir": ")" + project +
        R"(", "trainType": "classification",
        "parameters": {"epochs": 1, "backbone": "compact", "effort": "fast", "exports": "saved_model"}})"), "taskId");
    if (!environment("TFSERVE_QUICK").empty()) post("/tasks/" + id + "/cancel", ""); // to try the other steps in seconds
    follow("/tasks/" + id + "/output");
    string task = request("GET", "/tasks/" + id).body, state = value(task, "state");
    check(state == "done" || state == "cancelled", task);
    return state + " " + value(task, "modelPath");
}

void run(const string& name, const string& folder) {
    string job = value(push(name, R"(for n in range(3):\n    print(\"line\", n, flush=True))"), "id");
    std::cout << "pushed job " << job << std::endl;
    string state = follow("/jobs/" + job + "/output");
    std::cout << "followed the job: " << state << std::endl;

    deploy(name, folder + "/half.onnx");
    std::cout << "deployed half.onnx" << std::endl;
    string predicted = post("/v1/models/" + name + ":predict", R"({"instances": [[1, 2], [3, 4]]})");
    std::cout << "predicted by v1: " << predicted << std::endl;
    std::cout << "predicted by v2:";
    for (float number : predict_binary(name)) std::cout << " " << number;
    std::cout << std::endl;

    deploy(name, folder + "/brightness.onnx");
    std::cout << "classified the image: " << classify(name, folder + "/photo.png") << std::endl;
    string trained = train(folder + "/digits"); // prints while it runs
    std::cout << "trained: " << trained << std::endl;

    string endless = value(push(name, "import time; time.sleep(600)"), "job");
    string ended = call("/cancel_job/", R"({"name": ")" + name + R"(", "job": )" + endless + "}");
    check(value(ended, "cancelled") == "true", "the job ended before it was cancelled");
    std::cout << "cancelled job " << endless << std::endl;

    try {
        call("/get_status/", R"({"name": "no such workspace"})");
    } catch (const Refused& error) {
        std::cout << "refused with " << error.what() << std::endl;
    }
}

void workflow(const string& folder) {
    string name = value(call("/create_workspace/", "{}"), "result"); // a random name
    std::cout << "created workspace " << name << std::endl;
    auto destroy = [&] { // also ends its jobs, and deletes its model and files
        call("/destroy_workspace/", R"({"name": ")" + name + "\"}");
        std::cout << "destroyed the workspace" << std::endl;
    };
    try {
        run(name, folder);
    } catch (...) {
        destroy();
        throw;
    }
    destroy();
}

int main(int count, char** arguments) {
    try {
        workflow(std::filesystem::absolute(count > 1 ? arguments[1] : "."));
    } catch (const std::exception& error) {
        std::cerr << error.what() << std::endl;
        return 1;
    }
}
