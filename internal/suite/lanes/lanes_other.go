//go:build !amd64

package lanes

// supported: there are no kernels but for amd64.
func (k *Kernel) supported() bool { return false }

func (k *Kernel) run(*program, *byte, int) { panic("lanes: run of a kernel that this machine has not") }
