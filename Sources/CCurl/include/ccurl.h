// libcurl, loaded at the first request. If it were linked, every `ltx --help` would load it and its
// eight dependencies, and building would need its development package. Contains only the parts that
// `HTTPClient` uses.
//
// The numbers are part of libcurl's ABI, which has not changed since libcurl.so.4 (2006).
#ifndef CCURL_H
#define CCURL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  CCURL_OPTION_POST = 47,
  CCURL_OPTION_HTTPGET = 80,
  CCURL_OPTION_UPLOAD = 46,
  CCURL_OPTION_NOSIGNAL = 99,
  CCURL_OPTION_FOLLOWLOCATION = 52,
  CCURL_OPTION_MAXREDIRS = 68,
  CCURL_OPTION_SSL_VERIFYPEER = 64,
  CCURL_OPTION_SSL_VERIFYHOST = 81,
  CCURL_OPTION_LOW_SPEED_LIMIT = 19,
  CCURL_OPTION_LOW_SPEED_TIME = 20,
  CCURL_OPTION_TIMEOUT_MS = 155,
  CCURL_OPTION_CONNECTTIMEOUT_MS = 156,
  CCURL_OPTION_PROTOCOLS = 181,
  CCURL_OPTION_REDIR_PROTOCOLS = 182,
  CCURL_OPTION_NOPROGRESS = 43,
  CCURL_OPTION_URL = 10002,
  CCURL_OPTION_ERRORBUFFER = 10010,
  CCURL_OPTION_HTTPHEADER = 10023,
  CCURL_OPTION_CUSTOMREQUEST = 10036,
  CCURL_OPTION_CAINFO = 10065,
  CCURL_OPTION_USERAGENT = 10018,
  CCURL_OPTION_ACCEPT_ENCODING = 10102,
  CCURL_OPTION_WRITEDATA = 10001,
  CCURL_OPTION_READDATA = 10009,
  CCURL_OPTION_HEADERDATA = 10029,
  CCURL_OPTION_SEEKDATA = 10168,
  CCURL_OPTION_XFERINFODATA = 10057,
  CCURL_OPTION_WRITEFUNCTION = 20011,
  CCURL_OPTION_READFUNCTION = 20012,
  CCURL_OPTION_HEADERFUNCTION = 20079,
  CCURL_OPTION_SEEKFUNCTION = 20167,
  CCURL_OPTION_XFERINFOFUNCTION = 20219,
  CCURL_OPTION_POSTFIELDSIZE_LARGE = 30120,
  CCURL_OPTION_INFILESIZE_LARGE = 30115,

  CCURL_HTTP_AND_HTTPS = 3,  // CURLPROTO_HTTP | CURLPROTO_HTTPS
  CCURL_READ_ABORT = 0x10000000,
  CCURL_ERROR_BUFFER_SIZE = 256,
};

/// Codes of `ccurl_perform` that callers distinguish.
enum {
  CCURL_OK = 0,
  CCURL_UNSUPPORTED_PROTOCOL = 1,
  CCURL_MALFORMED_URL = 3,
  CCURL_UNKNOWN_PROXY = 5,
  CCURL_UNKNOWN_HOST = 6,
  CCURL_NO_CONNECTION = 7,
  CCURL_TIMEOUT = 28,
  CCURL_ABORTED_BY_CALLBACK = 42,
  CCURL_SSL_CONNECT = 35,
  CCURL_PEER_VERIFICATION = 60,
  CCURL_CA_FILE = 77,
};

/// Loads libcurl once. Returns NULL, or the reason why it can't be loaded. May be called from any
/// thread.
const char *ccurl_load(void);

/// The functions below may be called only after `ccurl_load` has returned NULL. A handle is used by
/// one thread at a time.
void *ccurl_new(void);
void ccurl_reset(void *handle);
void ccurl_free(void *handle);
int ccurl_set_number(void *handle, int option, long value);
int ccurl_set_offset(void *handle, int option, int64_t value);
/// Strings are copied by libcurl; other pointers must outlive the transfer.
int ccurl_set_pointer(void *handle, int option, const void *value);
/// For WRITEFUNCTION, READFUNCTION and HEADERFUNCTION.
int ccurl_set_transfer(void *handle, int option, size_t (*function)(char *, size_t, size_t, void *));
int ccurl_set_seek(void *handle, int (*function)(void *, int64_t offset, int origin));
int ccurl_set_progress(void *handle, int (*function)(void *, int64_t, int64_t, int64_t, int64_t));
/// Appends a header line; returns NULL and leaves the list unchanged if memory runs out.
void *ccurl_append_header(void *list, const char *line);
void ccurl_free_headers(void *list);
int ccurl_perform(void *handle);
const char *ccurl_describe(int code);
/// The status of the last response.
long ccurl_status(void *handle);

#endif
