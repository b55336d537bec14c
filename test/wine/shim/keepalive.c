/* Keeps a Windows running between programs, for tests. When the last program ends, Wine ends its services, and the next
   program starts them again, with its own output for theirs: whoever reads that to its end waits for them. One is
   enough: a second one ends at once. */
#include <windows.h>

int main(void)
{
	if (!CreateMutexA(NULL, TRUE, "veritrail-keepalive") || GetLastError() == ERROR_ALREADY_EXISTS)
		return 0;
	Sleep(INFINITE);
	return 0;
}
