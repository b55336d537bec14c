//go:build !linux && !windows

package service

import (
	"context"
	"errors"
	"fmt"
)

type system struct{}

var errUnsupported = fmt.Errorf("service: neither systemd nor Windows: %w", errors.ErrUnsupported)

func (s *Service) connect() error                         { return errUnsupported }
func (s *Service) plan() (string, error)                  { return "", errUnsupported }
func (s *Service) install(context.Context) error          { return errUnsupported }
func (s *Service) start(context.Context) error            { return errUnsupported }
func (s *Service) stop(context.Context) error             { return errUnsupported }
func (s *Service) remove(context.Context) error           { return errUnsupported }
func (s *Service) status(context.Context) (Status, error) { return Status{}, errUnsupported }

func run(ctx context.Context, _ RunConfig, serve func(ctx context.Context, ready func()) error) error {
	return serve(ctx, func() {})
}
