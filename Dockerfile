# podium under an init, as a user without rights. `docker run … podium serve` (the default) or `… podium worker anga`.
#
#   docker build -t podium .
#   docker build -t podium --build-arg CLAUDE_VERSION=2.1.330 .     with the Claude Code CLI inside
#   docker run -it -v "$PWD:/stage" -e ANTHROPIC_API_KEY podium
#
# With everything round it, a container for each agent: docker-compose.yml. A volume that is empty takes owner and mode of
# the folder it is mounted on: /stage is what a stage is, /home/podium/.local/share/podium keeps the agents' own homes and logins.
# Neither needs anything else that can be written to but /tmp.
#
# Both base images are arguments, so that local ones can stand in; docker/prove does that without a registry.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
ARG PROFILE=release
ARG CARGO_FLAGS=""
WORKDIR /src
COPY . .
# The dev profile's folder is called debug.
RUN cargo build --locked --bin podium --profile "$PROFILE" --target-dir /build $CARGO_FLAGS \
 && install -D "/build/$(echo "$PROFILE" | sed 's/^dev$/debug/')/podium" /out/podium \
 && rm -rf /build

FROM ${BASE_IMAGE}
ARG CLAUDE_VERSION=""
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates tini \
 && if [ -n "$CLAUDE_VERSION" ]; then \
      apt-get install -y --no-install-recommends git nodejs npm \
   && npm install --global --no-fund --no-audit "@anthropic-ai/claude-code@$CLAUDE_VERSION" \
   && npm cache clean --force; \
    fi \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 podium \
 && install -d -o podium -g podium -m 0750 /stage \
 && install -d -o podium -g podium -m 0700 /home/podium/.local /home/podium/.local/share /home/podium/.local/share/podium \
      /home/podium/.config /home/podium/.config/podium
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/podium/
COPY --from=build /out/podium /usr/local/bin/podium
USER podium
ENV PODIUM_STAGE=/stage
WORKDIR /stage
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "podium"]
CMD ["serve"]
