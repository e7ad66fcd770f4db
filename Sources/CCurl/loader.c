#include "ccurl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

static struct {
  int (*global_init)(long);
  void *(*init)(void);
  void (*reset)(void *);
  void (*cleanup)(void *);
  int (*setopt)(void *, int, ...);
  int (*perform)(void *);
  int (*getinfo)(void *, int, ...);
  const char *(*strerror)(int);
  void *(*slist_append)(void *, const char *);
  void (*slist_free_all)(void *);
} curl;

static char problem[512];  // empty after a successful load; written only inside pthread_once

static void load(void) {
  // The same library, built with OpenSSL or with GnuTLS.
  void *library = dlopen("libcurl.so.4", RTLD_NOW);
  if (!library) library = dlopen("libcurl-gnutls.so.4", RTLD_NOW);
  if (!library) {
    snprintf(problem, sizeof problem, "%s", dlerror());
    return;
  }
  const struct {
    const char *name;
    void *function;
  } wanted[] = {
      {"curl_global_init", &curl.global_init},   {"curl_easy_init", &curl.init},
      {"curl_easy_reset", &curl.reset},          {"curl_easy_cleanup", &curl.cleanup},
      {"curl_easy_setopt", &curl.setopt},        {"curl_easy_perform", &curl.perform},
      {"curl_easy_getinfo", &curl.getinfo},      {"curl_easy_strerror", &curl.strerror},
      {"curl_slist_append", &curl.slist_append}, {"curl_slist_free_all", &curl.slist_free_all},
  };
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
    void *symbol = dlsym(library, wanted[i].name);
    if (!symbol) {
      snprintf(problem, sizeof problem, "libcurl.so.4 has no function %s", wanted[i].name);
      return;
    }
    *(void **)wanted[i].function = symbol;
  }
  const long everything = 3;  // CURL_GLOBAL_ALL
  int code = curl.global_init(everything);
  if (code != CCURL_OK) snprintf(problem, sizeof problem, "%s", curl.strerror(code));
}

const char *ccurl_load(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, load);
  return problem[0] ? problem : NULL;
}

void *ccurl_new(void) { return curl.init(); }
void ccurl_reset(void *handle) { curl.reset(handle); }
void ccurl_free(void *handle) { curl.cleanup(handle); }
int ccurl_set_number(void *handle, int option, long value) { return curl.setopt(handle, option, value); }
int ccurl_set_offset(void *handle, int option, int64_t value) { return curl.setopt(handle, option, value); }
int ccurl_set_pointer(void *handle, int option, const void *value) { return curl.setopt(handle, option, value); }

int ccurl_set_transfer(void *handle, int option, size_t (*function)(char *, size_t, size_t, void *)) {
  return curl.setopt(handle, option, function);
}

int ccurl_set_seek(void *handle, int (*function)(void *, int64_t, int)) {
  return curl.setopt(handle, CCURL_OPTION_SEEKFUNCTION, function);
}

int ccurl_set_progress(void *handle, int (*function)(void *, int64_t, int64_t, int64_t, int64_t)) {
  return curl.setopt(handle, CCURL_OPTION_XFERINFOFUNCTION, function);
}

void *ccurl_append_header(void *list, const char *line) { return curl.slist_append(list, line); }
void ccurl_free_headers(void *list) { curl.slist_free_all(list); }
int ccurl_perform(void *handle) { return curl.perform(handle); }
const char *ccurl_describe(int code) { return curl.strerror(code); }

long ccurl_status(void *handle) {
  const int response_code = 0x200000 + 2;  // CURLINFO_RESPONSE_CODE
  long status = 0;
  curl.getinfo(handle, response_code, &status);
  return status;
}
