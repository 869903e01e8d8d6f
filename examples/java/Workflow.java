import java.io.BufferedReader;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The whole workflow from Java 17, without packages. Prepare FOLDER as docs/how-to/any-language.md says.
 *
 * <pre>java examples/java/Workflow.java FOLDER</pre>
 *
 * Java has no JSON library of its own. Here {@link #value} finds single values; a real program uses the library that it has.
 */
public class Workflow {
    private static final String LENGTH = "Inference-Header-Content-Length";
    private static final String JSON = "application/json";

    private final HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    private final String server = System.getenv().getOrDefault("TFSERVE_URL", "http://127.0.0.1:8000");
    private final String token = System.getenv("TFSERVE_TOKEN");
    private final Path folder;

    private Workflow(Path folder) {
        this.folder = folder;
    }

    public static void main(String[] arguments) throws Exception {
        Workflow workflow = new Workflow(Path.of(arguments.length > 0 ? arguments[0] : ".").toAbsolutePath());
        String name = value(workflow.call("/create_workspace/", "{}"), "result"); // a random name
        System.out.println("created workspace " + name);
        try {
            workflow.run(name);
        } finally {
            workflow.call("/destroy_workspace/", "{\"name\": \"%s\"}".formatted(name)); // also its jobs, model and files
            System.out.println("destroyed the workspace");
        }
    }

    private void run(String name) throws Exception {
        String script = "for n in range(3):\\n    print('line', n, flush=True)";
        String job = value(push(name, script), "id");
        System.out.println("pushed job " + job);
        System.out.println("followed the job: " + follow("/jobs/" + job + "/output"));

        deploy(name, "half.onnx");
        System.out.println("deployed half.onnx");
        byte[] rows = "{\"instances\": [[1, 2], [3, 4]]}".getBytes();
        String predicted = text(send("POST", "/v1/models/" + name + ":predict", rows, "Content-Type", JSON));
        System.out.println("predicted by v1: " + predicted);
        System.out.println("predicted by v2: " + predictBinary(name));

        deploy(name, "brightness.onnx");
        byte[] photo = Files.readAllBytes(folder.resolve("photo.png"));
        String image = text(send("POST", "/v1/models/" + name + ":predict", photo, "Content-Type", "image/png"));
        System.out.println("classified the image: " + value(image, "label"));

        System.out.println("trained: " + train());

        String endless = value(push(name, "import time; time.sleep(600)"), "job");
        String cancelled = call("/cancel_job/", "{\"name\": \"%s\", \"job\": %s}".formatted(name, endless));
        check(value(cancelled, "cancelled").equals("true"), "the job ended before it was cancelled");
        System.out.println("cancelled job " + endless);

        try {
            call("/get_status/", "{\"name\": \"no such workspace\"}");
        } catch (Refused error) {
            System.out.println("refused with " + error.getMessage());
        }
    }

    private String push(String name, String script) throws Exception {
        return call("/push_job/", """
                {"name": "%s", "type": 1, "job": "%s", "timeout": 0}""".formatted(name, script));
    }

    private void deploy(String name, String model) throws Exception {
        call("/deploy/", """
                {"name": "%s", "path": "%s", "timeout": 120}""".formatted(name, folder.resolve(model)));
    }

    /** The numbers of the output tensor, from a request and a response with little-endian bytes after the JSON. */
    private String predictBinary(String name) throws Exception {
        byte[] head = """
                {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}],
                 "outputs": [{"name": "y", "parameters": {"binary_data": true}}]}""".getBytes();
        ByteBuffer body = ByteBuffer.allocate(head.length + 16).order(ByteOrder.LITTLE_ENDIAN).put(head);
        for (float number : new float[] {1, 2, 3, 4}) {
            body.putFloat(number);
        }
        String length = Integer.toString(head.length);
        var response = send("POST", "/v2/models/" + name + "/infer", body.array(), LENGTH, length);
        int end = Integer.parseInt(response.headers().firstValue(LENGTH).orElseThrow());
        byte[] received = response.body().readAllBytes();
        var tensor = ByteBuffer.wrap(received, end, received.length - end).order(ByteOrder.LITTLE_ENDIAN);
        StringBuilder numbers = new StringBuilder();
        while (tensor.hasRemaining()) {
            numbers.append(tensor.getFloat()).append(' ');
        }
        return numbers.toString().strip();
    }

    /** State and model of a training, after it has ended. */
    private String train() throws Exception {
        String request = """
                {"userId": "me", "projectId": "digits", "projectDir": "%s", "trainType": "classification",
                 "parameters": {"epochs": 1, "backbone": "compact", "effort": "fast", "exports": "saved_model"}}""";
        byte[] body = request.formatted(folder.resolve("digits")).getBytes();
        String id = value(text(send("POST", "/tasks/", body, "Content-Type", JSON)), "taskId");
        if (System.getenv("TFSERVE_QUICK") != null) {
            text(send("POST", "/tasks/" + id + "/cancel", new byte[0])); // to try the other steps in seconds
        }
        follow("/tasks/" + id + "/output");
        String task = text(send("GET", "/tasks/" + id, new byte[0]));
        String state = value(task, "state");
        check(state.equals("done") || state.equals("cancelled"), task);
        return state + " " + value(task, "modelPath");
    }

    /** Prints the output of a job or training while it runs. Returns its final state. */
    private String follow(String path) throws Exception {
        var response = send("GET", path, new byte[0], "Accept", "text/event-stream");
        try (var lines = new BufferedReader(new InputStreamReader(response.body(), StandardCharsets.UTF_8))) {
            for (String line; (line = lines.readLine()) != null; ) {
                if (line.startsWith("data: {\"state\"")) {
                    return value(line, "state");
                }
                if (line.startsWith("data: ") && !value(line, "text").isBlank()) {
                    System.out.print(value(line, "text").stripTrailing().indent(2));
                }
            }
        }
        throw new IllegalStateException("the stream ended before the job");
    }

    /** A request of the workspace API. A job that failed is a request that succeeded, so its error is checked, too. */
    private String call(String path, String json) throws Exception {
        String response = text(send("POST", path, json.getBytes(StandardCharsets.UTF_8), "Content-Type", JSON));
        check(!response.contains("\"error\":{"), path + " failed: " + value(response, "message"));
        return response;
    }

    private HttpResponse<InputStream> send(String method, String path, byte[] body, String... headers) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(server + path)).method(method, BodyPublishers.ofByteArray(body));
        if (headers.length > 0) {
            request.headers(headers);
        }
        if (token != null) {
            request.header("Authorization", "Bearer " + token);
        }
        var response = http.send(request.build(), BodyHandlers.ofInputStream());
        if (response.statusCode() != 200) {
            String error = text(response);
            String key = error.contains("\"message\"") ? "message" : "error"; // in v1, v2 and training it is a text
            throw new Refused("status " + response.statusCode() + ": " + value(error, key));
        }
        return response;
    }

    private static String text(HttpResponse<InputStream> response) throws Exception {
        return new String(response.body().readAllBytes(), StandardCharsets.UTF_8);
    }

    /** The first text, number or boolean with this name in some JSON; empty if there is none. */
    private static String value(String json, String name) {
        Matcher match = Pattern.compile("\"" + name + "\": *(?:\"((?:[^\"\\\\]|\\\\.)*)\"|([^,}]+))").matcher(json);
        if (!match.find()) {
            return "";
        }
        return match.group(1) == null ? match.group(2) : match.group(1).translateEscapes();
    }

    private static void check(boolean condition, String problem) {
        if (!condition) {
            throw new IllegalStateException(problem);
        }
    }

    /** The server refused a request. */
    private static final class Refused extends RuntimeException {
        Refused(String message) {
            super(message);
        }
    }
}
