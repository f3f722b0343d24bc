// simgpu: a ggml backend of GPUs that do not exist, for tests of what happens when memory is short.
//
// The memory of a device is ordinary memory of the machine, and the CPU backend computes; but every byte is
// charged to the device's budget, and an allocation over it fails as cudaMalloc would. Memory that was never
// written costs nothing, so a laptop holds several "cards" of 80 GiB.
//
// SIMGPU="name=CUDA0,total=8GiB,free=7500MiB,ctx=300MiB;name=CUDA1,…" describes the devices:
//   name   as ggml shows it                      desc   its description
//   kind   cuda (default), vulkan, metal         id     PCI address; default 0000:01:00.0, 0000:02:00.0 …
//   type   gpu (default), igpu                   total  bytes, or with KiB, MiB, GiB; default 8GiB
//   free   of total, what other programs leave; default all of it
//   ctx    what a process pays for using the device at all, as for a CUDA context: charged when it first asks
//          for free memory, allocates or makes a stream, which is when CUDA makes one; default 0
// SIMGPU_LEDGER=FILE shares the devices among all processes that name the same file.
// SIMGPU_FAIL_COMPUTE_AFTER=N lets computations fail for want of memory from the N-th of a process on;
// SIMGPU_ABORT_COMPUTE_AFTER=N lets the N-th end the process, as CUDA's own errors do (ggml_cuda_error).
//
// Rules without another source: llama.cpp 0c1e5709, ggml-cuda.cu, ggml-vulkan.cpp, ggml-metal.cpp.
#include "ledger.h"
#include "sizes.h"

#include <atomic>
#include <deque>
#include <sstream>
#include <string>

struct Device {
    size_t index = 0;
    std::string name, description = "simulated GPU", kind = "cuda", type = "gpu", id;
    size_t total = size_t(8) << 30, free = SIZE_MAX, context = 0;
    bool opened = false;  // the context is paid for
    ggml_backend_buffer_type memory{}, pinned{};
    ggml_backend_device ggml{};
};

static std::deque<Device> devices;  // elements stay where they are
static Ledger ledger;
static long long fail_after = 0, abort_after = 0;  // 0 is never

static Device & device_of(ggml_backend_buffer_type_t type) { return *static_cast<Device *>(type->context); }
static Device & device_of(ggml_backend_dev_t dev) { return *static_cast<Device *>(dev->context); }
static double mib(size_t bytes) { return bytes / 1048576.0; }

// Pays for the context once. Where there is no room for it, the device is of no use to this process.
static bool usable(Device & device) {
    static std::mutex opening;
    std::lock_guard<std::mutex> one(opening);
    if (!device.opened && !(device.opened = ledger.take(device.index, device.free, device.context))) {
        GGML_LOG_ERROR("%s: a context of %.2f MiB on device %zu: out of memory\n",
                       __func__, mib(device.context), device.index);
    }
    return device.opened;
}

static bool charge(Device & device, size_t size) {
    return usable(device) && ledger.take(device.index, device.free, size);
}

// ---- buffers ------------------------------------------------------------------------------------------------

static bool only_zeros(const char * data, size_t size) {
    return data[0] == 0 && memcmp(data, data + 1, size - 1) == 0;
}
static void buffer_free(ggml_backend_buffer_t buffer) {
    munmap(buffer->context, buffer->size);
    ledger.give(device_of(buffer->buft).index, buffer->size);
}
static void buffer_release(ggml_backend_buffer_t buffer) {  // memory of somebody else
    ledger.give(device_of(buffer->buft).index, buffer->size);
}
static void * buffer_base(ggml_backend_buffer_t buffer) { return buffer->context; }
static void buffer_memset(ggml_backend_buffer_t, ggml_tensor * tensor, uint8_t value, size_t offset, size_t size) {
    memset((char *) tensor->data + offset, value, size);
}
static void buffer_set(
    ggml_backend_buffer_t buffer, ggml_tensor * tensor, const void * from, size_t offset, size_t size) {
    // Weights are written once, into memory that reads as zero: the holes of a sparse file need no pages.
    const bool weights = buffer->usage == GGML_BACKEND_BUFFER_USAGE_WEIGHTS;
    if (weights && size > 4096 && only_zeros((const char *) from, size)) return;
    memcpy((char *) tensor->data + offset, from, size);
}
static void buffer_get(ggml_backend_buffer_t, const ggml_tensor * tensor, void * to, size_t offset, size_t size) {
    memcpy(to, (const char *) tensor->data + offset, size);
}
static bool buffer_copy(ggml_backend_buffer_t, const ggml_tensor * from, ggml_tensor * to) {
    memcpy(to->data, from->data, ggml_nbytes(from));
    return true;
}
static void buffer_clear(ggml_backend_buffer_t buffer, uint8_t value) {
    if (value == 0) madvise(buffer->context, buffer->size, MADV_DONTNEED);  // read as zero again, without pages
    else memset(buffer->context, value, buffer->size);
}

static const ggml_backend_buffer_i buffer_functions = {
    buffer_free, buffer_base, nullptr, buffer_memset, buffer_set, buffer_get,
    nullptr, nullptr, buffer_copy, buffer_clear, nullptr,
};

static ggml_backend_buffer_t memory_new(ggml_backend_buffer_type_t type, size_t size) {
    Device & device = device_of(type);
    if (!charge(device, size)) {
        GGML_LOG_ERROR("%s: allocating %.2f MiB on device %zu: cudaMalloc failed: out of memory\n",
                       __func__, mib(size), device.index);
        return nullptr;
    }
    void * base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        ledger.give(device.index, size);
        return nullptr;
    }
    return ggml_backend_buffer_init(type, buffer_functions, base, size);
}

// Metal computes on the mapped file itself, which counts as allocated.
static ggml_backend_buffer_t memory_from_host(ggml_backend_dev_t dev, void * base, size_t size, size_t) {
    Device & device = device_of(dev);
    if (!charge(device, size)) {
        GGML_LOG_ERROR("%s: mapping %.2f MiB on device %zu: out of memory\n", __func__, mib(size), device.index);
        return nullptr;
    }
    ggml_backend_buffer_i functions = buffer_functions;
    functions.free_buffer = buffer_release;
    functions.clear = [](ggml_backend_buffer_t, uint8_t) {};  // the file is mapped for reading
    return ggml_backend_buffer_init(&device.memory, functions, base, size);
}

static ggml_backend_buffer_t pinned_new(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
    if (buffer) buffer->buft = type;
    return buffer;
}

// ---- streams ------------------------------------------------------------------------------------------------

struct Stream {
    Device & device;
    ggml_backend_t cpu;
};

static Stream & stream_of(ggml_backend_t backend) { return *static_cast<Stream *>(backend->context); }

static ggml_status stream_compute(ggml_backend_t backend, ggml_cgraph * graph) {
    static std::atomic<long long> computed{ 0 };
    const long long number = ++computed;
    if (number >= abort_after && abort_after > 0) {
        GGML_LOG_ERROR("CUDA error: out of memory\n");
        GGML_ABORT("CUDA error");
    }
    if (number >= fail_after && fail_after > 0) {
        GGML_LOG_ERROR("%s: computing on device %zu: out of memory\n", __func__, stream_of(backend).device.index);
        return GGML_STATUS_ALLOC_FAILED;
    }
    return ggml_backend_graph_compute(stream_of(backend).cpu, graph);
}
// llama.cpp looks for this function in every backend, so its number of threads reaches the CPU behind this one.
static void stream_set_threads(ggml_backend_t backend, int count) {
    ggml_backend_reg_t cpu = ggml_backend_dev_backend_reg(stream_of(backend).cpu->device);
    void * set = ggml_backend_reg_get_proc_address(cpu, "ggml_backend_set_n_threads");
    reinterpret_cast<ggml_backend_set_n_threads_t>(set)(stream_of(backend).cpu, count);
}
static void stream_free(ggml_backend_t backend) {
    ggml_backend_free(stream_of(backend).cpu);
    delete &stream_of(backend);
    delete backend;
}
static ggml_backend_t stream_new(ggml_backend_dev_t dev, const char *) {
    static ggml_guid guid = { 's', 'i', 'm', 'g', 'p', 'u', '.', 'q', 'w', 'e', 'n', 'c', 't', 'l', 0, 1 };
    if (!usable(device_of(dev))) return nullptr;
    ggml_backend_t cpu = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
    ggml_backend_i functions{};
    functions.get_name = [](ggml_backend_t backend) { return stream_of(backend).device.name.c_str(); };
    functions.free = stream_free;
    functions.synchronize = [](ggml_backend_t) {};
    functions.graph_compute = stream_compute;
    functions.event_record = functions.event_wait = [](ggml_backend_t, ggml_backend_event_t) {};
    return new ggml_backend{ &guid, functions, dev, new Stream{ device_of(dev), cpu } };
}

// ---- devices ------------------------------------------------------------------------------------------------

static void device_memory(ggml_backend_dev_t dev, size_t * free, size_t * total) {
    Device & device = device_of(dev);
    *free = usable(device) ? ledger.left(device.index, device.free) : 0;
    *total = device.total;
}
static enum ggml_backend_dev_type device_type(ggml_backend_dev_t dev) {
    return device_of(dev).type == "igpu" ? GGML_BACKEND_DEVICE_TYPE_IGPU : GGML_BACKEND_DEVICE_TYPE_GPU;
}
static void device_props(ggml_backend_dev_t dev, ggml_backend_dev_props * props) {
    const Device & device = device_of(dev);
    const bool metal = device.kind == "metal";
    props->name = device.name.c_str();
    props->description = device.description.c_str();
    props->type = device_type(dev);
    props->device_id = metal ? nullptr : device.id.c_str();
    device_memory(dev, &props->memory_free, &props->memory_total);
    // With async and events several devices work as a pipeline.
    props->caps.async = props->caps.events = true;
    props->caps.host_buffer = !metal;
    props->caps.buffer_from_host_ptr = metal;
    props->caps.mmap_support = metal || device.type != "igpu";
}
static bool device_supports_buffer(ggml_backend_dev_t dev, ggml_backend_buffer_type_t type) {
    const Device & device = device_of(dev);
    const bool integrated = device.kind == "cuda" && device.type == "igpu";  // reads pinned memory where it is
    return type == &device.memory || (integrated && type == &devices[0].pinned);
}
static bool device_supports(ggml_backend_dev_t dev, const ggml_tensor * op) {
    for (const ggml_tensor * source : op->src) {
        if (!source || !source->buffer || source->buffer->buft->iface.alloc_buffer != memory_new) continue;
        if (&device_of(source->buffer->buft) != &device_of(dev)) return false;
    }
    return op->op != GGML_OP_FLASH_ATTN_EXT || device_of(dev).kind != "cuda" || cuda_has_attention(op);
}
// Large operations on weights that the host keeps are worth the copy of the weights.
static bool device_offloads(ggml_backend_dev_t dev, const ggml_tensor * op) {
    static const char * setting = getenv("GGML_OP_OFFLOAD_MIN_BATCH");
    static const int least = setting ? atoi(setting) : 32;
    const bool product = op->op == GGML_OP_MUL_MAT || op->op == GGML_OP_MUL_MAT_ID;
    if (device_of(dev).kind == "metal" && !product) return false;
    switch (op->op) {
        case GGML_OP_GET_ROWS: return false;
        case GGML_OP_MUL_MAT: return op->ne[1] >= least;
        case GGML_OP_MUL_MAT_ID: case GGML_OP_ROPE: case GGML_OP_ROPE_BACK: return op->ne[2] >= least;
        default: return ggml_nrows(op) >= least;
    }
}

static ggml_backend_device_i device_functions(bool metal) {
    ggml_backend_device_i functions{};
    functions.get_name = [](ggml_backend_dev_t dev) { return device_of(dev).name.c_str(); };
    functions.get_description = [](ggml_backend_dev_t dev) { return device_of(dev).description.c_str(); };
    functions.get_memory = device_memory;
    functions.get_type = device_type;
    functions.get_props = device_props;
    functions.init_backend = stream_new;
    functions.get_buffer_type = [](ggml_backend_dev_t dev) { return &device_of(dev).memory; };
    if (metal) functions.buffer_from_host_ptr = memory_from_host;
    else functions.get_host_buffer_type = [](ggml_backend_dev_t) { return &devices[0].pinned; };
    functions.supports_op = device_supports;
    functions.supports_buft = device_supports_buffer;
    functions.offload_op = device_offloads;
    functions.event_new = [](ggml_backend_dev_t dev) { return new ggml_backend_event{ dev, nullptr }; };
    functions.event_free = [](ggml_backend_dev_t, ggml_backend_event_t event) { delete event; };
    functions.event_synchronize = [](ggml_backend_dev_t, ggml_backend_event_t) {};
    return functions;
}
static size_t memory_alignment(ggml_backend_buffer_type_t type) {
    const std::string & kind = device_of(type).kind;
    return kind == "cuda" ? 128 : kind == "metal" ? 32 : 256;  // Vulkan's is the card's own, at most 256
}
static ggml_backend_buffer_type_i memory_functions(const std::string & kind) {
    ggml_backend_buffer_type_i functions{};
    functions.get_name = [](ggml_backend_buffer_type_t type) { return device_of(type).name.c_str(); };
    functions.alloc_buffer = memory_new;
    functions.get_alignment = memory_alignment;
    if (kind == "vulkan") functions.get_max_size = [](ggml_backend_buffer_type_t) { return size_t(1) << 30; };
    if (kind == "cuda") functions.get_alloc_size = cuda_size;
    if (kind == "metal") functions.get_alloc_size = metal_size;
    return functions;
}
static const char * pinned_name(ggml_backend_buffer_type_t type) {
    return device_of(type).kind == "vulkan" ? "Vulkan_Host" : "CUDA_Host";
}

// ---- configuration and registration -------------------------------------------------------------------------

static bool parse_size(size_t & size, const std::string & text) {
    char * unit = nullptr;
    const unsigned long long number = strtoull(text.c_str(), &unit, 10);
    const std::string name = unit;
    const int shift = name == "" ? 0 : name == "KiB" ? 10 : name == "MiB" ? 20 : name == "GiB" ? 30 : -1;
    if (unit == text.c_str() || text[0] == '-' || shift < 0) return false;
    size = size_t(number) << shift;
    return true;
}
static bool parse_entry(Device & device, const std::string & entry) {
    const size_t equals = entry.find('=');
    if (equals == std::string::npos) return false;
    const std::string key = entry.substr(0, equals), value = entry.substr(equals + 1);
    if (key == "total") return parse_size(device.total, value);
    if (key == "free") return parse_size(device.free, value);
    if (key == "ctx") return parse_size(device.context, value);
    if (key == "kind" && value != "cuda" && value != "vulkan" && value != "metal") return false;
    if (key == "type" && value != "gpu" && value != "igpu") return false;
    std::string * text = key == "name" ? &device.name : key == "desc" ? &device.description :
        key == "kind" ? &device.kind : key == "type" ? &device.type : key == "id" ? &device.id : nullptr;
    if (text) *text = value;
    return text && !value.empty();
}
static void complete(Device & device, ggml_backend_reg_t reg) {
    const char * prefix = device.kind == "cuda" ? "CUDA" : device.kind == "vulkan" ? "Vulkan" : "MTL";
    char id[32];
    snprintf(id, sizeof id, "0000:%02zx:00.0", device.index + 1);
    const auto alike = [&](const Device & other) { return other.kind == device.kind; };
    const auto ordinal = std::count_if(devices.begin(), devices.end(), alike) - 1;  // it is the last so far
    if (device.name.empty()) device.name = prefix + std::to_string(ordinal);
    if (device.id.empty()) device.id = id;
    device.free = std::min(device.free, device.total);
    device.ggml = { device_functions(device.kind == "metal"), reg, &device };
    device.memory = { memory_functions(device.kind), &device.ggml, &device };
    device.pinned = { ggml_backend_cpu_buffer_type()->iface, &device.ggml, &device };
    device.pinned.iface.get_name = pinned_name;
    device.pinned.iface.alloc_buffer = pinned_new;
}
static bool configure(ggml_backend_reg_t reg) {
    const char * all = getenv("SIMGPU"), * file = getenv("SIMGPU_LEDGER");
    const char * fail = getenv("SIMGPU_FAIL_COMPUTE_AFTER"), * abort = getenv("SIMGPU_ABORT_COMPUTE_AFTER");
    std::istringstream texts(all ? all : "");
    for (std::string text; std::getline(texts, text, ';');) {
        Device & device = devices.emplace_back();
        device.index = devices.size() - 1;
        std::istringstream entries(text);
        for (std::string entry; std::getline(entries, entry, ',');) {
            if (parse_entry(device, entry)) continue;
            GGML_LOG_ERROR("simgpu: `%s` in SIMGPU is not understood\n", entry.c_str());
            return false;
        }
        complete(device, reg);
    }
    if (devices.empty() || devices.size() > MAX_DEVICES) {
        GGML_LOG_ERROR("simgpu: SIMGPU names %zu devices, 1 to %zu are possible\n", devices.size(), MAX_DEVICES);
        return false;
    }
    if (file && *file && !ledger.open(file)) {
        GGML_LOG_ERROR("simgpu: the ledger %s cannot be used\n", file);
        return false;
    }
    fail_after = fail ? atoll(fail) : 0;
    abort_after = abort ? atoll(abort) : 0;
    return true;
}
static void * reg_function(ggml_backend_reg_t, const char * name) {
    return strcmp(name, "ggml_backend_set_n_threads") == 0 ? reinterpret_cast<void *>(stream_set_threads) : nullptr;
}
static ggml_backend_reg_t simgpu_reg() {
    static ggml_backend_reg reg{};
    reg.api_version = GGML_BACKEND_API_VERSION;
    reg.iface.get_name = [](ggml_backend_reg_t) { return "SIMGPU"; };
    reg.iface.get_device_count = [](ggml_backend_reg_t) { return devices.size(); };
    reg.iface.get_device = [](ggml_backend_reg_t, size_t index) { return &devices[index].ggml; };
    reg.iface.get_proc_address = reg_function;
    static const bool configured = configure(&reg);
    return configured ? &reg : nullptr;
}
static int simgpu_score() { return 1; }

GGML_BACKEND_DL_IMPL(simgpu_reg)
GGML_BACKEND_DL_SCORE_IMPL(simgpu_score)
