/* Makes this machine's KVM look as if it came from a lesser CPU.
 *
 * Preloaded into libvirtd, which hands LD_PRELOAD on to every QEMU that it starts, the ones that
 * probe capabilities included: so what the host says of itself and what its guests really get
 * change alike. The bits to clear are given when it is compiled:
 *
 *     -DCLEAR='{7, 0, EBX, 24}, {7, 0, ECX, 22}'
 *
 * No libc beyond errno's address: it is compiled on the machine and loaded in other releases.
 */

#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <sys/syscall.h>

enum { EAX, EBX, ECX, EDX };

struct bit {
	unsigned leaf, subleaf;
	int reg;
	unsigned bit;
};

static const struct bit cleared[] = { CLEAR };

static long kernel_ioctl(int fd, unsigned long request, void *argument)
{
	long answer;

	__asm__ volatile("syscall"
			 : "=a"(answer)
			 : "a"((long)SYS_ioctl), "D"((long)fd), "S"(request), "d"(argument)
			 : "rcx", "r11", "memory");
	return answer;
}

static void clear(struct kvm_cpuid2 *cpuid)
{
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
		__u32 *regs[] = { &entry->eax, &entry->ebx, &entry->ecx, &entry->edx };

		for (unsigned j = 0; j < sizeof(cleared) / sizeof(cleared[0]); j++)
			if (entry->function == cleared[j].leaf && entry->index == cleared[j].subleaf)
				*regs[cleared[j].reg] &= ~(1u << cleared[j].bit);
	}
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list rest;
	void *argument;
	long answer;

	va_start(rest, request);
	argument = va_arg(rest, void *);
	va_end(rest);

	answer = kernel_ioctl(fd, request, argument);
	if (answer < 0) {
		errno = (int)-answer;
		return -1;
	}
	/* QEMU hands the request over as an int, sign and all: only the low half counts. */
	if ((unsigned)request == (unsigned)KVM_GET_SUPPORTED_CPUID)
		clear(argument);
	return (int)answer;
}
