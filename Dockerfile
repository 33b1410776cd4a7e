# The service. For a CPU: docker build -t laserrec .
# For CUDA 12.8: docker build -t laserrec --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY laserrec laserrec
# torch goes first and pinned, so that nothing that needs it chooses another build.
RUN pip install --no-cache-dir -c constraints.txt --extra-index-url "$TORCH_INDEX" torch \
    && pip install --no-cache-dir -c constraints.txt '.[serve]' \
    && rm -rf /src

RUN useradd --create-home --uid 10001 laserrec \
    && install -d -o laserrec /data /cache
USER laserrec
WORKDIR /data
# Threads that wait must not keep the cores from the event loop.
ENV LASERREC_CACHE=/cache OMP_WAIT_POLICY=PASSIVE LASERREC_SERVE_HOST=0.0.0.0 LASERREC_SERVE_PORT=8000
VOLUME ["/data", "/cache"]
EXPOSE 8000
STOPSIGNAL SIGTERM
# /livez, not /readyz: a service that is warming up must not be killed for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"LASERREC_SERVE_PORT\"]}/livez', timeout=4)"]
ENTRYPOINT ["laserrec"]
CMD ["serve", "/data/run"]
