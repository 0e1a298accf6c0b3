/* A driver that is played: as much of libcuda.so.1 as this server asks, answering what the environment says. */

#include <stdlib.h>
#include <string.h>

static int said(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

int cuInit(unsigned flags) { return said("PLAYED_INIT", 0); }
int cuDriverGetVersion(int *version) { *version = said("PLAYED_VERSION", 13000); return 0; }
int cuDeviceGetCount(int *count) { *count = said("PLAYED_COUNT", 1); return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return index < said("PLAYED_COUNT", 1) ? 0 : 101; }
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) { memset(uuid, 16 + device, 16); return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Played", length); return 0; }
int cuDeviceTotalMem_v2(size_t *total, int device) { *total = (size_t)4096 << 20; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 9 : 0; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &said; return said("PLAYED_CONTEXT", 0); }
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
int cuCtxPushCurrent_v2(void *context) { return 0; }
int cuCtxPopCurrent_v2(void **context) { return 0; }
int cuGetErrorName(int status, const char **name) {
    *name = status == 100 ? "CUDA_ERROR_NO_DEVICE" : status == 803 ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" : 0;
    return *name ? 0 : 1;
}
int cuMemGetInfo_v2(size_t *left, size_t *total) {
    *left = (size_t)said("PLAYED_FREE_MIB", 1024) << 20;
    *total = (size_t)4096 << 20;
    return 0;
}

/* ONNX Runtime's provider is linked with these. */
int cuGetErrorString(int status, const char **words) { *words = "played"; return 0; }
int cuGetProcAddress_v2(const char *name, void **function, int version, unsigned long flags, int *found) {
    *function = 0;
    return 500;
}
int cuTensorMapEncodeTiled(void) { return 801; }
