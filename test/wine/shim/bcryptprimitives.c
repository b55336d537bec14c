/* bcryptprimitives.dll for Wine, in the tests only. Every Go program loads it and asks it for ProcessPrng, which Wine 8
   does not have.

   Being loaded by every Go program, it mends one thing more: Wine 8 answers NtSetInformationFile of the class
   FileDispositionInformationEx (64), by which Go removes files, with a status that means nothing to Go. Windows of old
   says that there is no such class, and Go then removes the file in the old way. So does this, by a jump at the
   function's beginning. Where the class works, as in later Wine, nothing is changed. */
#include <windows.h>
#include <string.h>

#define FILE_DISPOSITION_INFORMATION_EX 64
#define STATUS_INVALID_INFO_CLASS ((LONG)0xC0000003)
#define STATUS_NOT_IMPLEMENTED ((LONG)0xC0000002)

BOOLEAN NTAPI SystemFunction036(PVOID, ULONG); /* RtlGenRandom */

__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *data, SIZE_T size)
{
	while (size > 0) {
		ULONG part = size > 1 << 20 ? 1 << 20 : (ULONG)size;
		if (!SystemFunction036(data, part))
			return FALSE;
		data += part;
		size -= part;
	}
	return TRUE;
}

typedef LONG(NTAPI *set_information)(HANDLE, void *, void *, ULONG, ULONG);
static set_information original;

static LONG NTAPI set_information_file(HANDLE file, void *io, void *data, ULONG size, ULONG class)
{
	LONG status = original(file, io, data, size, class);
	if (class == FILE_DISPOSITION_INFORMATION_EX && status == STATUS_NOT_IMPLEMENTED)
		return STATUS_INVALID_INFO_CLASS;
	return status;
}

static void hook(BYTE *entry)
{
	static const BYTE syscall_stub[] = {0x4c, 0x8b, 0xd1, 0xb8}; /* mov r10, rcx; mov eax, number */
	BYTE jump[12] = {0x48, 0xb8}; /* mov rax, address; jmp rax */
	void *target = (void *)set_information_file;
	DWORD old;
	BYTE *copy;

	if (!entry || memcmp(entry, syscall_stub, sizeof syscall_stub))
		return;
	copy = VirtualAlloc(NULL, 4096, MEM_COMMIT | MEM_RESERVE, PAGE_EXECUTE_READWRITE);
	if (!copy)
		return;
	memcpy(copy, entry, 32); /* the whole stub, which does not care where it stands */
	original = (set_information)(void *)copy;
	memcpy(jump + 2, &target, sizeof target);
	jump[10] = 0xff;
	jump[11] = 0xe0;
	if (!VirtualProtect(entry, sizeof jump, PAGE_EXECUTE_READWRITE, &old))
		return;
	memcpy(entry, jump, sizeof jump);
	VirtualProtect(entry, sizeof jump, old, &old);
	FlushInstructionCache(GetCurrentProcess(), entry, sizeof jump);
}

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved)
{
	(void)self;
	(void)reserved;
	if (reason == DLL_PROCESS_ATTACH) {
		HMODULE nt = GetModuleHandleA("ntdll.dll");
		if (nt && GetProcAddress(nt, "wine_get_version")) /* never in Windows itself */
			hook((BYTE *)(void *)GetProcAddress(nt, "NtSetInformationFile"));
	}
	return TRUE;
}
