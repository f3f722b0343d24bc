// Who has how much of each simulated device: in this process, or in a file that several processes share.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <mutex>

constexpr size_t MAX_DEVICES = 16, MAX_PROCESSES = 256;

// The file is an array of slots, one for each process, which holds a lock on its slot as long as it lives: the
// kernel drops the lock with the process, however that ended, and then the slot counts no more. One more lock,
// on the byte behind the slots, makes "is there room, then take it" one step for all processes.
class Ledger {
public:
    // Shares the devices through the file `path` from now on; false where that does not work.
    bool open(const char * path) {
        file = ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (file < 0 || ftruncate(file, GATE + 1) != 0) return false;
        void * map = mmap(nullptr, GATE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (map == MAP_FAILED) return false;
        slots = static_cast<Slot *>(map);
        for (size_t i = 0; i < MAX_PROCESSES; i++) {
            if (!lock(F_SETLK, F_WRLCK, byte(i))) continue;
            mine = &slots[i];
            *mine = Slot{ getpid(), {} };
            return true;
        }
        return false;
    }

    // Takes `bytes` of a device that has `budget` in all; false, and nothing taken, where they are not left.
    bool take(size_t device, size_t budget, size_t bytes) {
        Gate gate(*this);
        if (bytes > rest(device, budget)) return false;
        mine->used[device] += bytes;
        return true;
    }

    void give(size_t device, size_t bytes) {
        Gate gate(*this);
        mine->used[device] -= bytes;
    }

    size_t left(size_t device, size_t budget) {
        Gate gate(*this);
        return rest(device, budget);
    }

private:
    struct Slot {
        int64_t pid;  // for a person who looks into the file
        uint64_t used[MAX_DEVICES];
    };
    static constexpr off_t GATE = off_t(MAX_PROCESSES * sizeof(Slot));

    struct Gate {
        Ledger & ledger;
        explicit Gate(Ledger & l) : ledger(l) {
            ledger.threads.lock();
            if (ledger.file >= 0) ledger.lock(F_SETLKW, F_WRLCK, GATE);
        }
        ~Gate() {
            if (ledger.file >= 0) ledger.lock(F_SETLK, F_UNLCK, GATE);
            ledger.threads.unlock();
        }
    };

    static off_t byte(size_t slot) { return off_t(slot * sizeof(Slot)); }

    // `answer` receives what F_GETLK says.
    bool lock(int command, short type, off_t at, struct flock * answer = nullptr) {
        struct flock range{};
        range.l_type = type;
        range.l_whence = SEEK_SET;
        range.l_start = at;
        range.l_len = 1;
        const bool done = fcntl(file, command, &range) == 0;
        if (answer) *answer = range;
        return done;
    }

    bool alive(size_t slot) {
        struct flock holder;
        return lock(F_GETLK, F_WRLCK, byte(slot), &holder) && holder.l_type != F_UNLCK;
    }

    size_t rest(size_t device, size_t budget) {
        uint64_t used = mine->used[device];
        for (size_t i = 0; file >= 0 && i < MAX_PROCESSES; i++) {
            if (&slots[i] != mine && slots[i].used[device] && alive(i)) used += slots[i].used[device];
        }
        return used < budget ? budget - used : 0;
    }

    Slot local{};
    Slot * slots = &local, * mine = &local;
    int file = -1;
    std::mutex threads;  // locks of files belong to the process, they do not keep its threads apart
};
