#include "chashing.h"

#include <string.h>

void chashing_crc32_prepare(chashing_crc32_tables *tables, uint32_t reflected_polynomial) {
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? reflected_polynomial : 0);
    tables->rows[0][byte] = crc;
  }
  for (int row = 1; row < 8; row++) {
    for (int byte = 0; byte < 256; byte++) {
      uint32_t last = tables->rows[row - 1][byte];
      tables->rows[row][byte] = last >> 8 ^ tables->rows[0][last & 0xFF];
    }
  }
}

uint32_t chashing_crc32(
    const chashing_crc32_tables *tables, uint32_t crc, const uint8_t *bytes, size_t count) {
  const uint32_t(*t)[256] = tables->rows;
  for (; count >= 8; count -= 8, bytes += 8) {
    uint32_t low, high;
    memcpy(&low, bytes, 4);
    memcpy(&high, bytes + 4, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    low = __builtin_bswap32(low);
    high = __builtin_bswap32(high);
#endif
    low ^= crc;
    crc = t[7][low & 0xFF] ^ t[6][low >> 8 & 0xFF] ^ t[5][low >> 16 & 0xFF] ^ t[4][low >> 24]
        ^ t[3][high & 0xFF] ^ t[2][high >> 8 & 0xFF] ^ t[1][high >> 16 & 0xFF] ^ t[0][high >> 24];
  }
  for (; count > 0; count--, bytes++) crc = crc >> 8 ^ t[0][(crc ^ *bytes) & 0xFF];
  return crc;
}
