// The logits that llama.cpp computes of given token ids, with an f32 cache:
//
//   logits MODEL.gguf IDS.txt OUT.bin
//
// IDS.txt has ids as text; OUT.bin gets f32 [tokens, vocab].
#include <cstdio>
#include <vector>

#include "llama.h"

static int fail(const char *what) {
    std::fprintf(stderr, "%s\n", what);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 4) return fail("usage: logits MODEL.gguf IDS.txt OUT.bin");
    llama_log_set([](ggml_log_level level, const char *text, void *) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
    }, nullptr);
    llama_backend_init();
    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    llama_model *model = llama_model_load_from_file(argv[1], model_params);
    if (!model) return fail("the model can't be loaded");

    std::vector<llama_token> ids;
    std::FILE *file = std::fopen(argv[2], "r");
    if (!file) return fail("the ids can't be read");
    for (int id; std::fscanf(file, "%d", &id) == 1;) ids.push_back(id);
    std::fclose(file);

    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = ids.size() < 32 ? 32 : ids.size();
    params.type_k = params.type_v = GGML_TYPE_F32;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    llama_context *context = llama_init_from_model(model, params);
    if (!context) return fail("no context");
    llama_batch batch = llama_batch_init(ids.size(), 0, 1);
    batch.n_tokens = ids.size();
    for (size_t i = 0; i < ids.size(); i++) {
        batch.token[i] = ids[i];
        batch.pos[i] = i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    if (llama_decode(context, batch)) return fail("decoding failed");
    const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    std::FILE *out = std::fopen(argv[3], "wb");
    if (!out) return fail("the output can't be written");
    for (size_t i = 0; i < ids.size(); i++) std::fwrite(llama_get_logits_ith(context, i), 4, vocab, out);
    return std::fclose(out) ? fail("the output can't be written") : 0;
}
