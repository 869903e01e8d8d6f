"""The configurations of proxies in the guide, changed so that a test can run them: other ports, and no certificates."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs_samples import ROOT, samples

NAME = "models.example.com"
GUIDE = samples((ROOT / "docs" / "how-to" / "nginx.md").read_text(encoding="utf-8"))
CONFIGURATIONS = {each.title: each.code for each in GUIDE if each.title}
AROUND = """
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    {site}
}}
"""


def nginx(folder: Path, site: str, *, listen: int, backend: int) -> list[str]:
    """The command that starts nginx with the site, in front of the port `backend`."""
    site = re.sub(r"^ *ssl_certificate.*$", "", site, flags=re.MULTILINE)
    site = re.sub(r"listen \d+ ssl", f"listen 127.0.0.1:{listen}", site)
    site = re.sub(r"127\.0\.0\.1:800[01]", f"127.0.0.1:{backend}", site)
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder, site=site))
    return ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]


def caddy(folder: Path, *, listen: int, backend: int) -> list[str]:
    site = CONFIGURATIONS["Caddyfile"].replace("127.0.0.1:8000", f"127.0.0.1:{backend}")
    options = f"{{\n admin off\n storage file_system {folder}\n}}\n"
    (folder / "Caddyfile").write_text(options + site.replace(NAME, f"http://{NAME}:{listen}"))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def haproxy(folder: Path, *, listen: int, backend: int) -> list[str]:
    site = CONFIGURATIONS["haproxy.cfg"].replace("127.0.0.1:8000", f"127.0.0.1:{backend}")
    (folder / "haproxy.cfg").write_text(re.sub(r"bind :443 .*", f"bind 127.0.0.1:{listen}", site))
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]
