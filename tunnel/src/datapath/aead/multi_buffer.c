/* What multi_buffer.rs calls: the library's functions are macros, and its jobs are laid out as its header says. */

#include <intel-ipsec-mb.h>

/* A manager for one thread; NULL if the library is not the header's, or does not serve this CPU. */
IMB_MGR *cladnet_multi_buffer_manager(void)
{
        if (imb_get_version() != IMB_VERSION_NUM)
                return NULL;
        IMB_MGR *manager = alloc_mb_mgr(0);
        if (manager == NULL)
                return NULL;
        init_mb_mgr_avx512(manager);
        if (manager->imb_errno != 0 || !(manager->features & IMB_FEATURE_AVX512_IFMA)) {
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
        if (job == NULL)
                return 0;
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
        /*
         * Nothing here varies that the library's check of a job, 45 ns, would look at. This cipher's jobs wait for no
         * others: they are done when they were submitted.
         */
        return IMB_SUBMIT_JOB_NOCHECK(manager) == job && job->status == IMB_STATUS_COMPLETED;
}
