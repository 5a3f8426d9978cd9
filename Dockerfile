# docker build -t mshnet_pl . && docker run --rm -v "$PWD/runs:/work/runs" mshnet_pl
FROM python:3.12-slim
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /work
COPY . .
RUN make install
CMD ["make", "demo"]
