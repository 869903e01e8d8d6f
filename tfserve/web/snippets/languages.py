"""One writer for each language: a program that sends a request and prints the response, with standard libraries only.

Each reads the token from the environment variable TFSERVE_TOKEN, which may be missing where none is needed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import NamedTuple

TOKEN = "TFSERVE_TOKEN"  # noqa: S105 - the name of a variable


class HttpCall(NamedTuple):
    """A POST request: with the text `body`, or with the contents of `file`.

    The response is printed; if it is a file itself, it is saved as `saves`.
    """

    url: str
    content_type: str
    body: str = ""
    file: str = ""
    saves: str = ""


class Snippet(NamedTuple):
    """A program in one language. `id` is usable in HTML and CSS."""

    id: str
    language: str
    code: str


def snippets(call: HttpCall) -> list[Snippet]:
    """The call in every language."""
    return [Snippet(id_, name, write(call)) for id_, name, write in _LANGUAGES]


def curl(call: HttpCall) -> str:
    lines = [
        f"curl {shlex.quote(call.url)}",
        f'${{{TOKEN}:+-H "Authorization: Bearer ${TOKEN}"}}',
        f"-H 'Content-Type: {call.content_type}'",
        f"--data-binary @{call.file}" if call.file else f"-d {shlex.quote(call.body)}",
        *([f"-o {call.saves}"] if call.saves else []),
    ]
    return " \\\n  ".join(lines) + "\n"


def python(call: HttpCall) -> str:
    data = f'open("{call.file}", "rb").read()' if call.file else f"{_single_quoted(call.body)}.encode()"
    end = f'open("{call.saves}", "wb").write(response.read())' if call.saves else "print(response.read().decode())"
    return f"""import os, urllib.request

request = urllib.request.Request(
    {_quoted(call.url)},
    data={data},
    headers={{"Content-Type": "{call.content_type}"}},
)
if token := os.environ.get("{TOKEN}"):
    request.add_header("Authorization", f"Bearer {{token}}")
with urllib.request.urlopen(request) as response:
    {end}
"""


def javascript(call: HttpCall) -> str:
    """A module for Node.js 18 or later; in a browser without the first lines."""
    body = f'await readFile("{call.file}")' if call.file else _single_quoted(call.body)
    functions = [*(["readFile"] if call.file else []), *(["writeFile"] if call.saves else [])]
    imports = f'import {{ {", ".join(functions)} }} from "node:fs/promises";\n\n' if functions else ""
    end = (
        f'await writeFile("{call.saves}", Buffer.from(await response.arrayBuffer()));'
        if call.saves
        else "console.log(await response.text());"
    )
    return f"""{imports}const token = process.env.{TOKEN};
const response = await fetch({_quoted(call.url)}, {{
  method: "POST",
  headers: {{ "Content-Type": "{call.content_type}", ...(token && {{ Authorization: `Bearer ${{token}}` }}) }},
  body: {body},
}});
{end}
"""


def java(call: HttpCall) -> str:
    """For Java 17 or later: java Call.java."""
    body = f'ofFile(Path.of("{call.file}"))' if call.file else f"ofString({_quoted(call.body)})"
    end = (
        f'client.send(request.build(), BodyHandlers.ofFile(Path.of("{call.saves}")));'
        if call.saves
        else "System.out.println(client.send(request.build(), BodyHandlers.ofString()).body());"
    )
    return f"""import java.net.URI;
import java.net.http.*;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;

public class Call {{
    public static void main(String[] arguments) throws Exception {{
        var client = HttpClient.newHttpClient();
        var request = HttpRequest.newBuilder(URI.create({_quoted(call.url)}))
            .version(HttpClient.Version.HTTP_1_1)
            .header("Content-Type", "{call.content_type}")
            .POST(BodyPublishers.{body});
        var token = System.getenv("{TOKEN}");
        if (token != null) request.header("Authorization", "Bearer " + token);
        {end}
    }}
}}
"""


def csharp(call: HttpCall) -> str:
    """A program of top-level statements for .NET 6 or later."""
    content = (
        f'new ByteArrayContent(File.ReadAllBytes("{call.file}"))'
        if call.file
        else f"new ByteArrayContent(Encoding.UTF8.GetBytes({_quoted(call.body)}))"
    )
    end = (
        f'File.WriteAllBytes("{call.saves}", await response.Content.ReadAsByteArrayAsync());'
        if call.saves
        else "Console.WriteLine(await response.Content.ReadAsStringAsync());"
    )
    return f"""using System.Net.Http.Headers;
using System.Text;

using var client = new HttpClient();
var token = Environment.GetEnvironmentVariable("{TOKEN}");
if (token != null) client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);
var content = {content};
content.Headers.ContentType = new MediaTypeHeaderValue("{call.content_type}");
var response = await client.PostAsync({_quoted(call.url)}, content);
{end}
"""


def go(call: HttpCall) -> str:
    used = ["net/http", "os", *([] if call.saves else ["fmt"]), "io", *([] if call.file else ["strings"])]
    imports = "\n".join(f'\t"{each}"' for each in sorted(used))
    opened = f'\tbody, err := os.Open("{call.file}")\n\tcheck(err)\n' if call.file else ""
    body = "body" if call.file else f"strings.NewReader({_quoted(call.body)})"
    end = f'check(os.WriteFile("{call.saves}", content, 0o644))' if call.saves else "fmt.Println(string(content))"
    return f"""package main

import (
{imports}
)

func check(err error) {{
	if err != nil {{
		panic(err)
	}}
}}

func main() {{
{opened}	request, err := http.NewRequest("POST", {_quoted(call.url)}, {body})
	check(err)
	request.Header.Set("Content-Type", "{call.content_type}")
	if token := os.Getenv("{TOKEN}"); token != "" {{
		request.Header.Set("Authorization", "Bearer "+token)
	}}
	response, err := http.DefaultClient.Do(request)
	check(err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	check(err)
	{end}
}}
"""


def php(call: HttpCall) -> str:
    content = f"file_get_contents('{call.file}')" if call.file else _single_quoted(call.body)
    end = f"file_put_contents('{call.saves}', $response);" if call.saves else 'echo $response, "\\n";'
    return f"""<?php
$headers = ['Content-Type: {call.content_type}'];
if ($token = getenv('{TOKEN}')) {{
    $headers[] = "Authorization: Bearer $token";
}}
$response = file_get_contents({_single_quoted(call.url)}, false, stream_context_create(['http' => [
    'method' => 'POST',
    'header' => $headers,
    'content' => {content},
    'ignore_errors' => true,
]]));
{end}
"""


_LANGUAGES: tuple[tuple[str, str, Callable[[HttpCall], str]], ...] = (
    ("curl", "curl", curl),
    ("python", "Python", python),
    ("javascript", "JavaScript", javascript),
    ("java", "Java", java),
    ("csharp", "C#", csharp),
    ("go", "Go", go),
    ("php", "PHP", php),
)


def _quoted(text: str) -> str:
    """A literal in double quotes, with the escapes that all these languages share."""
    return json.dumps(text)


def _single_quoted(text: str) -> str:
    """A literal in single quotes, in which JSON stays readable."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
