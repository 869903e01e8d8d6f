import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/**
 * Trains, deploys and predicts from Java 17, without any dependency.
 *
 * <pre>java examples/Workspace.java [http://127.0.0.1:8000]</pre>
 *
 * The server has to run on this machine, since the training script is named by its path on the server's disk.
 * JSON values are plain Java objects here: Map, List, String, Number, Boolean and null. A real program would use the
 * JSON library that it has; the small one at the end of this file is there so that nothing has to be installed.
 */
public class Workspace {
    private static final int COUNT = 20;
    private static final int JOB_TIMEOUT_S = 120;

    // Java would first ask whether the server speaks HTTP/2. It speaks 1.1, so don't.
    private final HttpClient http = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            .connectTimeout(Duration.ofSeconds(10))
            .build();
    private final String base;

    private Workspace(String base) {
        this.base = base;
    }

    public static void main(String[] arguments) throws Exception {
        String fromEnvironment = System.getenv().getOrDefault("TFSERVE_URL", "http://127.0.0.1:8000");
        Workspace client = new Workspace(arguments.length > 0 ? arguments[0] : fromEnvironment);

        // A workspace is a Python session of its own, with a queue of jobs. Without a name it gets a random one.
        String name = (String) client.call("/create_workspace/", Map.of());
        System.out.println("workspace " + name);
        try {
            client.trainAndPredict(name);
        } finally {
            // Takes its process, its model and its files along.
            client.call("/destroy_workspace/", Map.of("name", name));
            System.out.println("workspace destroyed");
        }
    }

    private void trainAndPredict(String name) throws Exception {
        // A file job: the path of a script on the server's disk. What it printed comes with the answer.
        System.out.println("training...");
        Map<String, Object> training = runJob("/push_job/", Map.of("name", name, "job", trainScript().toString()));
        System.out.print(((String) training.get("stdout")).indent(2));

        // Variables that a script has set stay in the workspace, and can be read as JSON.
        Map<String, Object> trained = variables(name, "model_path", "accuracy");
        System.out.printf("trained to an accuracy of %.4f%n", ((Number) trained.get("accuracy")).doubleValue());

        runJob("/deploy/", Map.of("name", name, "path", trained.get("model_path")));
        System.out.println("deployed " + trained.get("model_path"));

        // A job may also be a script in the request (type 1). It goes on with the variables the first one has set.
        String script = """
                import json
                with open(held_out_path) as file:
                    held_out = json.load(file)
                images, labels = held_out["images"][:%1$d], held_out["labels"][:%1$d]
                """.formatted(COUNT);
        runJob("/push_job/", Map.of("name", name, "type", 1, "job", script));
        Map<String, Object> samples = variables(name, "images", "labels");

        // `feed_dict` names the inputs of the model's signature, `fetches` the outputs that are wanted.
        Map<String, Object> prediction = runJob("/predict/", Map.of(
                "name", name,
                "fetches", List.of("probabilities"),
                "feed_dict", Map.of("images", samples.get("images"))));
        // One value for each fetched tensor: here a single one, a row of ten probabilities for each image.
        List<?> probabilities = (List<?>) ((List<?>) prediction.get("result")).get(0);
        compare(probabilities, (List<?>) samples.get("labels"));

        Map<String, Object> status = object(call("/get_status/", Map.of("name", name)));
        System.out.println("status " + status.get("STATUS") + ", last finished job " + status.get("FIN_JOB_NUM"));

        // Unloads the model and gives all its memory back.
        runJob("/undeploy/", Map.of("name", name));
        System.out.println("undeployed");
    }

    private static void compare(List<?> probabilities, List<?> labels) {
        int right = 0;
        for (int i = 0; i < COUNT; i++) {
            int predicted = indexOfLargest((List<?>) probabilities.get(i));
            int label = ((Number) labels.get(i)).intValue();
            System.out.println("predicted " + predicted + ", is " + label);
            right += predicted == label ? 1 : 0;
        }
        System.out.println(right + " of " + COUNT + " right (" + Math.round(100.0 * right / COUNT) + " %)");
        if (right < 0.8 * COUNT) {
            throw new IllegalStateException("that is worse than the training promised");
        }
    }

    private static int indexOfLargest(List<?> numbers) {
        int best = 0;
        for (int i = 1; i < numbers.size(); i++) {
            if (((Number) numbers.get(i)).doubleValue() > ((Number) numbers.get(best)).doubleValue()) {
                best = i;
            }
        }
        return best;
    }

    /** The training script lies beside this source file, from which Java has compiled this class. */
    private static Path trainScript() throws Exception {
        URI source = Workspace.class.getProtectionDomain().getCodeSource().getLocation().toURI();
        return Path.of(source).resolveSibling("digits").resolve("train.py").toAbsolutePath();
    }

    private Map<String, Object> variables(String name, String... names) throws IOException, InterruptedException {
        return object(call("/get_variable/", Map.of("name", name, "variable", List.of(names))));
    }

    /**
     * Submits a job and waits for its end: the server answers as soon as the job has finished, after `timeout` seconds
     * at the latest. A job that failed is a request that succeeded, so its error has to be looked for.
     */
    private Map<String, Object> runJob(String endpoint, Map<String, Object> fields)
            throws IOException, InterruptedException {
        Map<String, Object> request = new LinkedHashMap<>(fields);
        request.put("timeout", JOB_TIMEOUT_S);
        Map<String, Object> job = object(call(endpoint, request));
        if (job.get("finish") != Boolean.TRUE) {
            throw new IllegalStateException(endpoint + ": job " + job.get("job")
                    + " still runs; /get_finish/ and /get_result/ fetch it later");
        }
        if (job.get("error") != null) {
            throw new IllegalStateException(endpoint + " failed: " + Json.write(job.get("error")));
        }
        return job;
    }

    /** Every endpoint takes POST with a JSON object and answers {request_result, result}. */
    private Object call(String endpoint, Map<String, Object> fields) throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(URI.create(base + endpoint))
                .header("Content-Type", "application/json")
                .timeout(Duration.ofSeconds(JOB_TIMEOUT_S + 30))
                .POST(BodyPublishers.ofString(Json.write(fields)))
                .build();
        HttpResponse<String> response = http.send(request, BodyHandlers.ofString());
        Map<String, Object> answer = object(Json.read(response.body()));
        if (answer.get("request_result") != Boolean.TRUE) {
            throw new IllegalStateException(
                    endpoint + " was refused (" + response.statusCode() + "): " + answer.get("result"));
        }
        return answer.get("result");
    }

    @SuppressWarnings("unchecked") // the keys of a JSON object are always strings
    private static Map<String, Object> object(Object value) {
        return (Map<String, Object>) value;
    }

    /** As much JSON as it takes to talk to the server. */
    private static final class Json {
        private final String text;
        private int position;

        private Json(String text) {
            this.text = text;
        }

        static Object read(String text) {
            Json json = new Json(text);
            Object value = json.value();
            json.skipSpace();
            if (json.position != text.length()) {
                throw json.unexpected();
            }
            return value;
        }

        static String write(Object value) {
            if (value instanceof Map<?, ?> map) {
                return map.entrySet().stream()
                        .map(entry -> write(entry.getKey()) + ":" + write(entry.getValue()))
                        .collect(Collectors.joining(",", "{", "}"));
            }
            if (value instanceof List<?> list) {
                return list.stream().map(Json::write).collect(Collectors.joining(",", "[", "]"));
            }
            return value instanceof String string ? quote(string) : String.valueOf(value);
        }

        private static String quote(String string) {
            StringBuilder quoted = new StringBuilder("\"");
            for (char c : string.toCharArray()) {
                if (c == '"' || c == '\\') {
                    quoted.append('\\').append(c);
                } else if (c < ' ') {
                    quoted.append(String.format("\\u%04x", (int) c));
                } else {
                    quoted.append(c);
                }
            }
            return quoted.append('"').toString();
        }

        private Object value() {
            skipSpace();
            return switch (peek()) {
                case '{' -> object();
                case '[' -> array();
                case '"' -> string();
                case 't' -> word("true", Boolean.TRUE);
                case 'f' -> word("false", Boolean.FALSE);
                case 'n' -> word("null", null);
                default -> number();
            };
        }

        private Map<String, Object> object() {
            Map<String, Object> object = new LinkedHashMap<>();
            position++;
            while (!ends('}', object.isEmpty())) {
                skipSpace();
                String key = string();
                skipSpace();
                expect(':');
                object.put(key, value());
            }
            return object;
        }

        private List<Object> array() {
            List<Object> array = new ArrayList<>();
            position++;
            while (!ends(']', array.isEmpty())) {
                array.add(value());
            }
            return array;
        }

        /** Goes past the closing bracket, or past the comma that stands between two elements. */
        private boolean ends(char bracket, boolean first) {
            skipSpace();
            if (peek() == bracket) {
                position++;
                return true;
            }
            if (!first) {
                expect(',');
            }
            return false;
        }

        private String string() {
            StringBuilder string = new StringBuilder();
            expect('"');
            while (peek() != '"') {
                char c = text.charAt(position++);
                string.append(c == '\\' ? escaped() : c);
            }
            position++;
            return string.toString();
        }

        private char escaped() {
            char c = peek();
            position++;
            return switch (c) {
                case 'n' -> '\n';
                case 't' -> '\t';
                case 'r' -> '\r';
                case 'b' -> '\b';
                case 'f' -> '\f';
                case 'u' -> (char) Integer.parseInt(text.substring(position, position += 4), 16);
                default -> c;
            };
        }

        private Object word(String word, Object value) {
            if (!text.startsWith(word, position)) {
                throw unexpected();
            }
            position += word.length();
            return value;
        }

        private Number number() {
            int begin = position;
            while (position < text.length() && "+-.0123456789eE".indexOf(text.charAt(position)) >= 0) {
                position++;
            }
            if (begin == position) {
                throw unexpected();
            }
            String number = text.substring(begin, position);
            if (number.matches("-?\\d{1,18}")) {
                return Long.valueOf(number);
            }
            return Double.valueOf(number);
        }

        private void expect(char c) {
            if (peek() != c) {
                throw unexpected();
            }
            position++;
        }

        private void skipSpace() {
            while (position < text.length() && " \t\r\n".indexOf(text.charAt(position)) >= 0) {
                position++;
            }
        }

        private char peek() {
            if (position >= text.length()) {
                throw unexpected();
            }
            return text.charAt(position);
        }

        private IllegalStateException unexpected() {
            return new IllegalStateException("no JSON at character " + position + ": "
                    + text.substring(0, Math.min(200, text.length())));
        }
    }
}
