# podium under an init, as a user without rights. `docker run … podium serve` (the default) or `… podium worker anga`.
#
#   docker build -t podium .
#   docker build -t podium --build-arg CLAUDE_VERSION=2.1.330 .     with the Claude Code CLI inside, and git, which it calls
#   docker run -it -v "$PWD:/stage" -e ANTHROPIC_API_KEY podium
#
# With everything round it, a container for each agent: docker-compose.yml. A volume that is empty takes owner and mode of
# the folder it is mounted on: /stage is what a stage is, /home/podium/.local/share/podium keeps the agents' own homes and logins.
# Neither needs anything else that can be written to but /tmp. /certificate is where docker-compose.nats.yml shows NATS's certificate: whichever
# container comes first makes that volume, and NATS must be able to write to it.
#
# The base images are arguments, so that local ones can stand in; docker/prove does that without a registry.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG NODE_IMAGE=node:22-bookworm-slim
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

# The CLI is one program; npm, with which it comes, does not go into the image.
FROM ${NODE_IMAGE} AS cli
ARG CLAUDE_VERSION=""
# A registry of your own, and the certificates to trust with it.
ARG NPM_CONFIG_REGISTRY
ARG NPM_CONFIG_CAFILE
WORKDIR /cli
RUN mkdir /out \
 && if [ -n "$CLAUDE_VERSION" ]; then \
      npm install --no-fund --no-audit --ignore-scripts "@anthropic-ai/claude-code@$CLAUDE_VERSION" \
   && mv node_modules/@anthropic-ai/claude-code-linux-*4/claude /out/claude \
   && rm -rf node_modules; \
    fi

FROM ${BASE_IMAGE}
ARG CLAUDE_VERSION=""
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates tini ${CLAUDE_VERSION:+git} \
 && apt-get clean && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 podium \
 && install -d -o podium -g podium -m 0750 /stage \
 && install -d -o podium -g podium -m 0755 /certificate \
 && install -d -o podium -g podium -m 0700 /home/podium/.local /home/podium/.local/share /home/podium/.local/share/podium \
      /home/podium/.config /home/podium/.config/podium
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/podium/
COPY --from=cli /out/ /usr/local/bin/
COPY --from=build /out/podium /usr/local/bin/podium
USER podium
ENV PODIUM_STAGE=/stage
WORKDIR /stage
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "podium"]
CMD ["serve"]
