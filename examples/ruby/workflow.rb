# The whole workflow from Ruby 3, without gems. Prepare FOLDER as docs/how-to/any-language.md says.
#
#   ruby examples/ruby/workflow.rb FOLDER

require "json"
require "net/http"

SERVER = URI(ENV["TFSERVE_URL"] || "http://127.0.0.1:8000")
TOKEN = ENV["TFSERVE_TOKEN"]
FOLDER = File.expand_path(ARGV[0] || ".")
LENGTH = "Inference-Header-Content-Length"
HTTP = Net::HTTP.start(SERVER.host, SERVER.port, use_ssl: SERVER.scheme == "https", read_timeout: 300)

class Refused < StandardError; end

# The response to a request. A block gets it before its body is read.
def send_request(request, headers = {}, body = nil)
  headers.each { |name, value| request[name] = value }
  request["Authorization"] = "Bearer #{TOKEN}" if TOKEN
  request.body = body
  HTTP.request(request) do |response|
    unless response.is_a?(Net::HTTPOK)
      error = JSON.parse(response.read_body)["error"] # an object, or in v1, v2 and training a text
      raise Refused, "status #{response.code}: #{error.is_a?(Hash) ? error["message"] : error}"
    end
    yield response if block_given?
  end
end

def get(path) = JSON.parse(send_request(Net::HTTP::Get.new(path)).body)

def post(path, fields)
  JSON.parse(send_request(Net::HTTP::Post.new(path), { "Content-Type" => "application/json" }, JSON.generate(fields)).body)
end

# The `result` of the workspace API. A job that failed is a request that succeeded, so its error is checked, too.
def call(path, **fields)
  result = post(path, fields)["result"]
  raise "#{path} failed: #{result["error"]["message"]}" if result.is_a?(Hash) && result["error"]

  result
end

# Prints the output of a job or training while it runs. Returns its final state.
def follow(path)
  state, text = nil, +""
  send_request(Net::HTTP::Get.new(path), { "Accept" => "text/event-stream" }) do |response|
    response.read_body do |piece|
      text << piece
      while (line = text.slice!(/\A.*\n/))
        next unless line.start_with?("data: ")

        data = JSON.parse(line.delete_prefix("data: "))
        data["text"].to_s.each_line { |each| puts "  #{each}" unless each.strip.empty? }
        state = data["state"] || state
      end
    end
  end
  state or raise "the stream ended before the job"
end

def run(name)
  script = "for n in range(3):\n    print('line', n, flush=True)"
  job = call("/push_job/", name:, type: 1, job: script, timeout: 0)
  puts "pushed job #{job["id"]}"
  puts "followed the job: #{follow("/jobs/#{job["id"]}/output")}"

  call("/deploy/", name:, path: "#{FOLDER}/half.onnx", timeout: 120)
  puts "deployed half.onnx"
  puts "predicted by v1: #{post("/v1/models/#{name}:predict", { instances: [[1, 2], [3, 4]] })["predictions"]}"

  input = { name: "x", shape: [2, 2], datatype: "FP32", parameters: { binary_data_size: 16 } }
  head = JSON.generate(inputs: [input], outputs: [{ name: "y", parameters: { binary_data: true } }])
  body = head.b + [1, 2, 3, 4].pack("e*") # little-endian FP32
  response = send_request(Net::HTTP::Post.new("/v2/models/#{name}/infer"), { LENGTH => head.bytesize.to_s }, body)
  puts "predicted by v2: #{response.body.byteslice(response[LENGTH].to_i..).unpack("e*").join(" ")}"

  call("/deploy/", name:, path: "#{FOLDER}/brightness.onnx", timeout: 120)
  photo = File.binread("#{FOLDER}/photo.png")
  image = send_request(Net::HTTP::Post.new("/v1/models/#{name}:predict"), { "Content-Type" => "image/png" }, photo)
  puts "classified the image: #{JSON.parse(image.body)["predictions"][0]["label"]}"

  parameters = { epochs: 1, backbone: "compact", effort: "fast", exports: "saved_model" }
  project = { userId: "me", projectId: "digits", projectDir: "#{FOLDER}/digits", trainType: "classification" }
  id = post("/tasks/", { **project, parameters: })["taskId"]
  post("/tasks/#{id}/cancel", {}) if ENV["TFSERVE_QUICK"] # to try the other steps in seconds
  follow("/tasks/#{id}/output")
  task = get("/tasks/#{id}")
  raise task["error"] || task["state"] unless %w[done cancelled].include?(task["state"])

  puts "trained: #{task["state"]} #{task["modelPath"]}"

  endless = call("/push_job/", name:, type: 1, job: "import time; time.sleep(600)", timeout: 0)
  cancelled = call("/cancel_job/", name:, job: endless["job"])["cancelled"]
  raise "the job ended before it was cancelled" unless cancelled

  puts "cancelled job #{endless["job"]}"

  begin
    call("/get_status/", name: "no such workspace")
  rescue Refused => error
    puts "refused with #{error.message}"
  end
end

name = call("/create_workspace/") # a random name
puts "created workspace #{name}"
begin
  run(name)
ensure
  call("/destroy_workspace/", name:) # also ends its jobs, and deletes its model and files
  puts "destroyed the workspace"
end
