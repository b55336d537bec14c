package veritrailgrpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
)

// A serverStream counts messages and carries the context in which SetSubject finds the call.
type serverStream struct {
	grpc.ServerStream
	ctx  context.Context //nolint:containedctx // what Context returns
	call *call
}

func (s *serverStream) Context() context.Context { return s.ctx }

func (s *serverStream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.call.sent.Add(1)
	}
	return err
}

func (s *serverStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.call.received.Add(1)
	}
	return err
}

// A clientStream counts messages.
type clientStream struct {
	grpc.ClientStream
	call *call
}

func (s *clientStream) SendMsg(m any) error {
	// Counted before, because the last answer may come, and the event be made, before this returns.
	s.call.sent.Add(1)
	err := s.ClientStream.SendMsg(m)
	if err != nil {
		s.call.sent.Add(-1)
	}
	return err
}

func (s *clientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch {
	case err == nil:
		s.call.received.Add(1)
	case errors.Is(err, io.EOF):
		s.call.end(nil, false)
	default:
		s.call.end(err, false) // for an interceptor in between that dropped the options
	}
	return err
}
