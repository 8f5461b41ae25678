/* A libnvidia-ml.so.1 with the few functions that are asked, for a machine that has none. It
   checks what it is given as the real one does. The layouts are those of NVIDIA's nvml.h, 13.0.

   GPU 0  has memory and processes
   GPU 1  shares the system's memory: "not supported", like GB10
   GPU 2  is lost
   GPU 3  is partitioned: instances 0 and 2 of at most 7

   FAKE_NVML_INIT  what nvmlInit_v2 returns, 0 without it
   FAKE_NVML_LOG   a file that gets a line with the process id at each nvmlInit_v2
   FAKE_NVML_USED  the bytes used of GPU 0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, LOST = 15, VERSION = 25 };

typedef struct {
    int index, instance; /* an instance of -1 is the GPU itself */
} gpu;
typedef struct {
    unsigned int version;
    unsigned long long total, reserved, free, used;
} memory_v2;
typedef struct {
    unsigned int pid;
    unsigned long long used;
    unsigned int gpu_instance, compute_instance;
} process;
typedef struct {
    unsigned int gpu, memory;
} utilization;

static gpu gpus[4] = {{0, -1}, {1, -1}, {2, -1}, {3, -1}};
static gpu instances[7] = {{3, 0}, {3, 1}, {3, 2}, {3, 3}, {3, 4}, {3, 5}, {3, 6}};

static int text(char *to, unsigned int room, const char *from) {
    if (strlen(from) >= room) return TOO_SMALL;
    strcpy(to, from);
    return OK;
}

int nvmlInit_v2(void) {
    const char *log = getenv("FAKE_NVML_LOG"), *code = getenv("FAKE_NVML_INIT");
    if (log) {
        FILE *file = fopen(log, "a");
        fprintf(file, "%d\n", (int)getpid());
        fclose(file);
    }
    return code ? atoi(code) : OK;
}

/* cuda-python asks for it whenever it makes an error. */
const char *nvmlErrorString(int code) {
    static char string[32];
    snprintf(string, sizeof string, "fake error %d", code);
    return string;
}

int nvmlSystemGetDriverVersion(char *to, unsigned int room) { return text(to, room, "580.65.06"); }

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = 4;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, gpu **device) {
    if (index > 3) return INVALID;
    if (index == 2) return LOST;
    *device = &gpus[index];
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(gpu *device, unsigned int *count) {
    if (device->index == 1) return NOT_SUPPORTED;
    *count = device->index == 3 ? 7 : 0;
    return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(gpu *device, unsigned int index, gpu **instance) {
    if (device->index != 3 || device->instance != -1) return INVALID;
    if (index != 0 && index != 2) return NOT_FOUND;
    *instance = &instances[index];
    return OK;
}

int nvmlDeviceGetName(gpu *device, char *to, unsigned int room) {
    if (device->index == 1) return text(to, room, "NVIDIA GB10");
    return text(to, room, device->instance < 0 ? "NVIDIA H100 80GB HBM3" : "NVIDIA H100 MIG 1g.10gb");
}

int nvmlDeviceGetUUID(gpu *device, char *to, unsigned int room) {
    char uuid[64];
    snprintf(uuid, sizeof uuid, "%s-0000000%d-1111-2222-3333-44444444444%d",
             device->instance < 0 ? "GPU" : "MIG", device->index, device->instance + 1);
    return text(to, room, uuid);
}

int nvmlDeviceGetMemoryInfo_v2(gpu *device, memory_v2 *memory) {
    const char *used = getenv("FAKE_NVML_USED");
    if (memory->version != (sizeof *memory | 2u << 24)) return VERSION;
    if (device->index == 1) return NOT_SUPPORTED;
    memory->total = device->instance < 0 ? 85520809984ull : 10468982784ull;
    memory->reserved = 600000000ull;
    memory->used = used && device->index == 0 ? strtoull(used, NULL, 10) : 1000000000ull;
    memory->free = memory->total - memory->reserved - memory->used;
    return OK;
}

int nvmlDeviceGetUtilizationRates(gpu *device, utilization *rates) {
    if (device->index != 0) return NOT_SUPPORTED;
    rates->gpu = 42;
    rates->memory = 7;
    return OK;
}

static int processes(const process *from, unsigned int there, unsigned int *count, process *to) {
    unsigned int room = *count;
    *count = there;
    if (room < there) return TOO_SMALL;
    memcpy(to, from, there * sizeof *to);
    return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(gpu *device, unsigned int *count, process *to) {
    static int calls;
    process all[3] = {{(unsigned int)getpid(), 2000000000ull, -1u, -1u},
                      {999999999u, 12300000000ull, -1u, -1u},
                      {999999998u, -1ull, -1u, -1u}};
    if (device->index == 1) return NOT_SUPPORTED;
    if (device->index == 3) return processes(all, device->instance == 2 ? 1 : 0, count, to);
    /* The last one comes between the first question and the second. */
    return processes(all, calls++ ? 3 : 2, count, to);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(gpu *device, unsigned int *count, process *to) {
    process both = {(unsigned int)getpid(), 2500000000ull, -1u, -1u};
    return processes(&both, device->index == 0, count, to);
}
