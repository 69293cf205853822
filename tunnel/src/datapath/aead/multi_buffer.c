/* What multi_buffer.rs calls: the library's functions are macros, and its jobs are laid out as its header says. */

#include <intel-ipsec-mb.h>

/* A manager for one thread; NULL if the library has nothing for this CPU that is faster than ring. */
IMB_MGR *cladnet_multi_buffer_manager(void)
{
        IMB_MGR *manager = alloc_mb_mgr(0);
        if (manager == NULL)
                return NULL;
        init_mb_mgr_avx512(manager);
        if (imb_get_errno(manager) != 0 || !(manager->features & IMB_FEATURE_AVX512_IFMA)) {
                free_mb_mgr(manager);
                return NULL;
        }
        return manager;
}

void cladnet_multi_buffer_free(IMB_MGR *manager)
{
        free_mb_mgr(manager);
}

/*
 * Seals (or opens) a text where it lies, without additional data, and writes the tag that belongs to the ciphertext.
 * 0: the library refused.
 */
int cladnet_multi_buffer_run(IMB_MGR *manager, int opens, const uint8_t *key, const uint8_t *nonce, uint8_t *text,
                             uint64_t length, uint8_t *tag)
{
        IMB_JOB *job = IMB_GET_NEXT_JOB(manager);
        *job = (IMB_JOB){
                .cipher_mode = IMB_CIPHER_CHACHA20_POLY1305,
                .hash_alg = IMB_AUTH_CHACHA20_POLY1305,
                .cipher_direction = opens ? IMB_DIR_DECRYPT : IMB_DIR_ENCRYPT,
                .chain_order = opens ? IMB_ORDER_HASH_CIPHER : IMB_ORDER_CIPHER_HASH,
                .enc_keys = key,
                .dec_keys = key,
                .key_len_in_bytes = 32,
                .iv = nonce,
                .iv_len_in_bytes = 12,
                .src = text,
                .dst = text,
                .msg_len_to_cipher_in_bytes = length,
                .msg_len_to_hash_in_bytes = length,
                .auth_tag_output = tag,
                .auth_tag_output_len_in_bytes = 16,
        };
        IMB_JOB *done = IMB_SUBMIT_JOB(manager);
        /* ChaCha20-Poly1305 is done at once; a job that waits for others would be finished here. */
        while (done == NULL && IMB_QUEUE_SIZE(manager) > 0)
                done = IMB_FLUSH_JOB(manager);
        return done == job && done->status == IMB_STATUS_COMPLETED;
}
