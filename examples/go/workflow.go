// The whole workflow from Go, with its standard library. Prepare FOLDER as docs/how-to/any-language.md says.
//
//	go run examples/go/workflow.go FOLDER
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const length = "Inference-Header-Content-Length"

type object = map[string]any

// refused is the message of the server about a request.
type refused struct{ message string }

func (r refused) Error() string { return r.message }

var server = "http://127.0.0.1:8000"

func main() {
	log.SetFlags(0)
	if url := os.Getenv("TFSERVE_URL"); url != "" {
		server = url
	}
	folder, err := filepath.Abs(strings.Join(os.Args[1:], ""))
	if err == nil {
		err = workflow(folder)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func workflow(folder string) (err error) {
	var name string
	if err := call("/create_workspace/", object{}, &name); err != nil { // a random name
		return err
	}
	fmt.Println("created workspace", name)
	defer func() { // also ends its jobs, and deletes its model and files
		var destroyed bool
		if problem := call("/destroy_workspace/", object{"name": name}, &destroyed); err == nil {
			err = problem
		}
		fmt.Println("destroyed the workspace")
	}()
	steps := []func(name, folder string) error{runScript, predictNumbers, predictBinary, classify, train, cancel, showError}
	for _, step := range steps {
		if err := step(name, folder); err != nil {
			return err
		}
	}
	return nil
}

type job struct {
	Job, ID int
	Error   *struct{ Message string }
}

func push(name, script string) (pushed job, err error) {
	err = call("/push_job/", object{"name": name, "type": 1, "job": script, "timeout": 0}, &pushed)
	return pushed, err
}

func runScript(name, _ string) error {
	pushed, err := push(name, "for n in range(3):\n    print('line', n, flush=True)")
	if err != nil {
		return err
	}
	fmt.Println("pushed job", pushed.ID)
	state, err := follow(fmt.Sprintf("/jobs/%d/output", pushed.ID))
	fmt.Println("followed the job:", state)
	return err
}

func deploy(name, path string) error {
	var deployed job
	err := call("/deploy/", object{"name": name, "path": path, "timeout": 120}, &deployed)
	if err == nil && deployed.Error != nil { // a job that failed is a request that succeeded
		err = errors.New(deployed.Error.Message)
	}
	return err
}

func predictNumbers(name, folder string) error {
	if err := deploy(name, folder+"/half.onnx"); err != nil {
		return err
	}
	fmt.Println("deployed half.onnx")
	var response struct{ Predictions [][]float64 }
	err := post("/v1/models/"+name+":predict", object{"instances": [][]float64{{1, 2}, {3, 4}}}, &response)
	fmt.Println("predicted by v1:", response.Predictions)
	return err
}

func predictBinary(name, _ string) error {
	head := `{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}],
		"outputs": [{"name": "y", "parameters": {"binary_data": true}}]}`
	body := bytes.NewBufferString(head)
	if err := binary.Write(body, binary.LittleEndian, []float32{1, 2, 3, 4}); err != nil {
		return err
	}
	response, err := send("POST", "/v2/models/"+name+"/infer", body, object{length: strconv.Itoa(len(head))})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	size, err := strconv.ParseInt(response.Header.Get(length), 10, 64)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, response.Body, size); err != nil { // the JSON
		return err
	}
	numbers := make([]float32, 4)
	err = binary.Read(response.Body, binary.LittleEndian, numbers)
	fmt.Println("predicted by v2:", numbers)
	return err
}

func classify(name, folder string) error {
	if err := deploy(name, folder+"/brightness.onnx"); err != nil {
		return err
	}
	photo, err := os.Open(folder + "/photo.png")
	if err != nil {
		return err
	}
	response, err := send("POST", "/v1/models/"+name+":predict", photo, object{"Content-Type": "image/png"})
	if err != nil {
		return err
	}
	var image struct{ Predictions []struct{ Label string } }
	if err := decode(response, &image); err != nil {
		return err
	}
	fmt.Println("classified the image:", image.Predictions[0].Label)
	return nil
}

func train(_, folder string) error {
	var task struct{ TaskID, State, ModelPath, Error string }
	parameters := object{"epochs": 1, "backbone": "compact", "effort": "fast", "exports": "saved_model"}
	project := object{"userId": "me", "projectId": "digits", "projectDir": folder + "/digits",
		"trainType": "classification", "parameters": parameters}
	if err := post("/tasks/", project, &task); err != nil {
		return err
	}
	path := "/tasks/" + task.TaskID
	if os.Getenv("TFSERVE_QUICK") != "" { // to try the other steps in seconds
		if err := post(path+"/cancel", object{}, &task); err != nil {
			return err
		}
	}
	if _, err := follow(path + "/output"); err != nil {
		return err
	}
	response, err := send("GET", path, nil, nil)
	if err != nil {
		return err
	}
	if err := decode(response, &task); err != nil {
		return err
	}
	if task.State != "done" && task.State != "cancelled" {
		return errors.New(task.Error)
	}
	fmt.Println("trained:", task.State, task.ModelPath)
	return nil
}

func cancel(name, _ string) error {
	endless, err := push(name, "import time; time.sleep(600)")
	if err != nil {
		return err
	}
	var ended struct{ Cancelled bool }
	if err := call("/cancel_job/", object{"name": name, "job": endless.Job}, &ended); err != nil {
		return err
	}
	if !ended.Cancelled {
		return errors.New("the job ended before it was cancelled")
	}
	fmt.Println("cancelled job", endless.Job)
	return nil
}

func showError(_, _ string) error {
	var status object
	err := call("/get_status/", object{"name": "no such workspace"}, &status)
	if problem := (refused{}); errors.As(err, &problem) {
		fmt.Println("refused with", problem.message)
		return nil
	}
	return fmt.Errorf("expected a refusal, got %v", err)
}

// follow prints the output of a job or training while it runs, and returns its final state.
func follow(path string) (string, error) {
	response, err := send("GET", path, nil, object{"Accept": "text/event-stream"})
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return "", fmt.Errorf("the stream ended before the job: %w", err)
		}
		var event struct{ Text, State string }
		if !bytes.HasPrefix(line, []byte("data: ")) {
			continue
		}
		if err := json.Unmarshal(line[len("data: "):], &event); err != nil {
			return "", err
		}
		if event.State != "" {
			return event.State, nil
		}
		if text := strings.TrimSpace(event.Text); text != "" {
			fmt.Println("  " + strings.ReplaceAll(text, "\n", "\n  "))
		}
	}
}

// call reads the `result` of the workspace API.
func call(path string, fields object, result any) error {
	return post(path, fields, &struct{ Result any }{result})
}

func post(path string, fields object, result any) error {
	body, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	response, err := send("POST", path, bytes.NewReader(body), object{"Content-Type": "application/json"})
	if err != nil {
		return err
	}
	return decode(response, result)
}

func send(method, path string, body io.Reader, headers object) (*http.Response, error) {
	request, err := http.NewRequest(method, server+path, body)
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		request.Header.Set(name, value.(string))
	}
	if token := os.Getenv("TFSERVE_TOKEN"); token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil || response.StatusCode == http.StatusOK {
		return response, err
	}
	var failure struct{ Error any } // an object, or in v1, v2 and training a text
	if err := decode(response, &failure); err != nil {
		return nil, err
	}
	if found, isObject := failure.Error.(object); isObject {
		failure.Error = found["message"]
	}
	return nil, refused{fmt.Sprintf("status %d: %v", response.StatusCode, failure.Error)}
}

func decode(response *http.Response, result any) error {
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(result)
}
