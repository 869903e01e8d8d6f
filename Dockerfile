# docker build --tag tfserve .
# docker run --rm --publish 127.0.0.1:8000:8000 --volume tfserve:/data tfserve
ARG PYTHON_VERSION=3.11
FROM python:${PYTHON_VERSION}-slim AS build
ARG EXTRAS=tensorflow
WORKDIR /source
COPY . .
RUN deploy/install.sh /opt/tfserve "$EXTRAS"
# ONNX Runtime changes the case of texts in this locale. Debian keeps no earlier versions, to which it could be pinned.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends locales && localedef -i en_US -f UTF-8 en_US.UTF-8

FROM python:${PYTHON_VERSION}-slim
RUN useradd --uid 1000 --create-home tfserve && install --directory --owner tfserve --mode 0700 /data
COPY --from=build /opt/tfserve /opt/tfserve
COPY --from=build /usr/lib/locale/locale-archive /usr/lib/locale/
ENV PATH=/opt/tfserve/bin:$PATH \
    TFSERVE_DATA_DIR=/data
USER 1000:1000
WORKDIR /home/tfserve
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, ssl, urllib.request as r; tls = ssl.create_default_context(); tls.check_hostname = False; tls.verify_mode = ssl.CERT_NONE; scheme = 'https' if os.environ.get('TFSERVE_TLS_CERT') or os.environ.get('TFSERVE_TLS_SELF_SIGNED') else 'http'; r.urlopen(scheme + '://127.0.0.1:8000/v2/health/live', timeout=4, context=tls)"]
# All addresses of the container; who reaches it is decided by what `--publish` opens on the host.
CMD ["tfserve", "serve", "0.0.0.0:8000", "--allow-unauthenticated"]
