// The whole workflow from C#, without packages: .NET 6 or newer, or Mono. Prepare FOLDER as docs/how-to/any-language.md says.
//
//   dotnet run FOLDER                  in a project of `dotnet new console` with this file as Program.cs
//   mcs -r:System.Net.Http -r:System.Runtime.Serialization -r:System.Xml -r:System.Xml.Linq Workflow.cs && mono Workflow.exe FOLDER

using System;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Runtime.Serialization.Json;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using System.Xml;
using System.Xml.Linq;

/// The server refused a request.
public class Refused : Exception
{
    public Refused(string message) : base(message) { }
}

public class Workflow
{
    const string Length = "Inference-Header-Content-Length";
    static readonly string Server = Environment.GetEnvironmentVariable("TFSERVE_URL") ?? "http://127.0.0.1:8000";

    readonly HttpClient http = new HttpClient { Timeout = Timeout.InfiniteTimeSpan };
    readonly string folder;

    Workflow(string folder)
    {
        this.folder = folder;
        var token = Environment.GetEnvironmentVariable("TFSERVE_TOKEN");
        if (token != null) http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);
    }

    public static int Main(string[] arguments)
    {
        try
        {
            new Workflow(Path.GetFullPath(arguments.Length > 0 ? arguments[0] : ".")).All().GetAwaiter().GetResult();
            return 0;
        }
        catch (Exception error)
        {
            Console.Error.WriteLine(error.Message);
            return 1;
        }
    }

    async Task All()
    {
        var name = (await Call("/create_workspace/", "{}")).Value; // a random name
        Console.WriteLine("created workspace " + name);
        try
        {
            await Run(name);
        }
        finally
        {
            await Call("/destroy_workspace/", "{'name': '" + name + "'}"); // also ends its jobs, and deletes its model and files
            Console.WriteLine("destroyed the workspace");
        }
    }

    async Task Run(string name)
    {
        var job = (await Push(name, "for n in range(3):\\n    print(\\\"line\\\", n, flush=True)")).Element("id").Value;
        Console.WriteLine("pushed job " + job);
        Console.WriteLine("followed the job: " + await Follow("/jobs/" + job + "/output"));

        await Deploy(name, "half.onnx");
        Console.WriteLine("deployed half.onnx");
        var rows = Json(await Send(HttpMethod.Post, "/v1/models/" + name + ":predict", Body("{'instances': [[1, 2], [3, 4]]}")));
        var numbers = rows.Element("predictions").Elements().SelectMany(row => row.Elements()).Select(each => each.Value);
        Console.WriteLine("predicted by v1: " + string.Join(" ", numbers));
        Console.WriteLine("predicted by v2: " + await PredictBinary(name));

        await Deploy(name, "brightness.onnx");
        var photo = new ByteArrayContent(File.ReadAllBytes(Path.Combine(folder, "photo.png")));
        photo.Headers.ContentType = new MediaTypeHeaderValue("image/png");
        var image = Json(await Send(HttpMethod.Post, "/v1/models/" + name + ":predict", photo));
        Console.WriteLine("classified the image: " + image.Element("predictions").Elements().First().Element("label").Value);

        Console.WriteLine("trained: " + await Train());

        var endless = (await Push(name, "import time; time.sleep(600)")).Element("job").Value;
        var ended = await Call("/cancel_job/", "{'name': '" + name + "', 'job': " + endless + "}");
        if (ended.Element("cancelled").Value != "true") throw new Exception("the job ended before it was cancelled");
        Console.WriteLine("cancelled job " + endless);

        try
        {
            await Call("/get_status/", "{'name': 'no such workspace'}");
        }
        catch (Refused error)
        {
            Console.WriteLine("refused with " + error.Message);
        }
    }

    Task<XElement> Push(string name, string script)
    {
        return Call("/push_job/", "{'name': '" + name + "', 'type': 1, 'job': '" + script + "', 'timeout': 0}");
    }

    Task<XElement> Deploy(string name, string model)
    {
        return Call("/deploy/", "{'name': '" + name + "', 'path': '" + Path.Combine(folder, model) + "', 'timeout': 120}");
    }

    /// The request and the response have little-endian bytes after the JSON.
    async Task<string> PredictBinary(string name)
    {
        var head = Encoding.UTF8.GetBytes(Quoted(
            "{'inputs': [{'name': 'x', 'shape': [2, 2], 'datatype': 'FP32', 'parameters': {'binary_data_size': 16}}],"
            + "'outputs': [{'name': 'y', 'parameters': {'binary_data': true}}]}"));
        var tensor = new float[] { 1, 2, 3, 4 }.SelectMany(BitConverter.GetBytes);
        var body = new ByteArrayContent(head.Concat(tensor).ToArray());
        body.Headers.Add(Length, head.Length.ToString());
        var response = await Send(HttpMethod.Post, "/v2/models/" + name + "/infer", body);
        var length = int.Parse(response.Headers.Concat(response.Content.Headers).First(each => each.Key.Equals(Length, StringComparison.OrdinalIgnoreCase)).Value.First());
        var received = response.Content.ReadAsByteArrayAsync().Result;
        var count = (received.Length - length) / sizeof(float);
        return string.Join(" ", Enumerable.Range(0, count).Select(n => BitConverter.ToSingle(received, length + n * sizeof(float))));
    }

    async Task<string> Train()
    {
        var started = Json(await Send(HttpMethod.Post, "/tasks/", Body(
            "{'userId': 'me', 'projectId': 'digits', 'projectDir': '" + Path.Combine(folder, "digits") + "',"
            + "'trainType': 'classification',"
            + "'parameters': {'epochs': 1, 'backbone': 'compact', 'effort': 'fast', 'exports': 'saved_model'}}")));
        var path = "/tasks/" + started.Element("taskId").Value;
        if (Environment.GetEnvironmentVariable("TFSERVE_QUICK") != null) // to try the other steps in seconds
            await Send(HttpMethod.Post, path + "/cancel", Body("{}"));
        await Follow(path + "/output");
        var task = Json(await Send(HttpMethod.Get, path));
        var state = task.Element("state").Value;
        if (state != "done" && state != "cancelled") throw new Exception(task.Element("error").Value);
        return state + " " + (string)task.Element("modelPath");
    }

    /// Prints the output of a job or training while it runs. Returns its final state.
    async Task<string> Follow(string path)
    {
        var response = await Send(HttpMethod.Get, path, null, "text/event-stream");
        using (var lines = new StreamReader(await response.Content.ReadAsStreamAsync()))
        {
            string line;
            while ((line = await lines.ReadLineAsync()) != null)
            {
                if (!line.StartsWith("data: ")) continue;
                var data = Parsed(Encoding.UTF8.GetBytes(line.Substring(6)));
                if (data.Element("state") != null) return data.Element("state").Value;
                var text = data.Element("text").Value.Trim();
                if (text != "") Console.WriteLine("  " + text.Replace("\n", "\n  "));
            }
        }
        throw new Exception("the stream ended before the job");
    }

    /// The `result` of the workspace API. A job that failed is a request that succeeded, so its error is checked, too.
    async Task<XElement> Call(string path, string json)
    {
        var result = Json(await Send(HttpMethod.Post, path, Body(json))).Element("result");
        if (result.Element("error") != null) throw new Exception(path + " failed: " + result.Element("error").Element("message").Value);
        return result;
    }

    async Task<HttpResponseMessage> Send(HttpMethod method, string path, HttpContent body = null, string accept = "*/*")
    {
        var request = new HttpRequestMessage(method, Server + path) { Content = body };
        request.Headers.Accept.ParseAdd(accept);
        var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        if (response.IsSuccessStatusCode) return response;
        var error = Json(response).Element("error"); // in v1, v2 and training it is a text
        throw new Refused("status " + (int)response.StatusCode + ": " + (error.Element("message") ?? error).Value);
    }

    /// JSON is written with ' for ", which none of the values contain.
    static string Quoted(string json)
    {
        return json.Replace('\'', '"');
    }

    static HttpContent Body(string json)
    {
        return new StringContent(Quoted(json), Encoding.UTF8, "application/json");
    }

    /// JSON as XML, which is the form that .NET and Mono both can read.
    static XElement Json(HttpResponseMessage response)
    {
        return Parsed(response.Content.ReadAsByteArrayAsync().Result);
    }

    static XElement Parsed(byte[] json)
    {
        return XElement.Load(JsonReaderWriterFactory.CreateJsonReader(json, XmlDictionaryReaderQuotas.Max));
    }
}
