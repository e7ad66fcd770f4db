#ifndef CHASHING_H
#define CHASHING_H

#include <stddef.h>
#include <stdint.h>

/// Mixes whole blocks of 64 bytes into the state of SHA-256 (FIPS 180-4, section 6.2).
void chashing_sha256(uint32_t state[8], const uint8_t *bytes, size_t blocks);

/// The tables of a 32-bit cyclic redundancy check, lowest bit first: row k has the checksum of a
/// byte followed by k zero bytes.
typedef struct {
  uint32_t rows[8][256];
} chashing_crc32_tables;

void chashing_crc32_prepare(chashing_crc32_tables *tables, uint32_t reflected_polynomial);

/// Mixes bytes into a checksum, eight at a time; the caller inverts it at both ends.
uint32_t chashing_crc32(
    const chashing_crc32_tables *tables, uint32_t crc, const uint8_t *bytes, size_t count);

#endif
