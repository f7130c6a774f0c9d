#!/usr/bin/env bash
# Conformance of every device that is there, as it is and with all but the core ops composed.
set -euo pipefail
target/release/halite verify --device all
target/release/halite verify --device all --profile core-only
