# For a processor:   docker build -t docpod .
# For NVIDIA GPUs:   docker build -t docpod:cuda --build-arg VARIANT=cuda .      (run it with --gpus all)
# Run it:            docker run --rm -p 127.0.0.1:7860:7860 -e DOCPOD_PAGE_PASSWORD=... -v docpod:/data docpod
# Several machines:  --build-arg EXTRAS=cluster,postgres,s3, and deploy/compose.yaml
# One command:       docker run --rm -v docpod:/data -v "$PWD:/files:ro" docpod read /files/manual.pdf
#
# The password lets in whoever has it, to everything. Publish the port to this machine alone, as above, or put a proxy
# with HTTPS before it.
# The first run fetches the model into the volume.
FROM python:3.11-slim
ARG VARIANT=cpu
ARG EXTRAS=
ARG CPU_TORCH=https://download.pytorch.org/whl/cpu

# Triton compiles a small launcher in C for each machine.
RUN if [ "$VARIANT" = cuda ]; then apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && \
    rm -rf /var/lib/apt/lists/*; fi
RUN useradd --uid 1000 --create-home docpod && install -d -m 700 -o docpod -g docpod /data

WORKDIR /src
COPY requirements.txt ./
RUN if [ "$VARIANT" = cpu ]; then \
      pip install --no-cache-dir --no-deps --extra-index-url "$CPU_TORCH" "$(grep '^torch>' requirements.txt)"; fi && \
    { [ "$VARIANT" = cuda ] || sed -i '/^triton\|^bitsandbytes/d' requirements.txt; } && \
    pip install --no-cache-dir -r requirements.txt
COPY . .
RUN pip install --no-cache-dir --no-deps . && if [ -n "$EXTRAS" ]; then pip install --no-cache-dir ".[$EXTRAS]"; fi && \
    rm -rf /src/*

USER docpod
WORKDIR /home/docpod
ENV DOCPOD_HOME=/data DOCPOD_HOST=0.0.0.0 DOCPOD_BROWSER=0 HF_HOME=/data/hub PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 7860
HEALTHCHECK --start-period=60s --timeout=10s CMD python -c \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/manifest.json', timeout=5)"
ENTRYPOINT ["docpod"]
CMD ["serve"]
