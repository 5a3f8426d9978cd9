# docker build -t mshnet_pl . && docker run --rm -v "$PWD/runs:/app/runs" mshnet_pl
FROM python:3.13-slim
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY . .
RUN make install
CMD ["make", "demo"]
