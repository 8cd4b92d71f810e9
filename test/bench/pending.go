//go:build linux

package main

import (
	"context"
	"errors"
)

func measureMixed(context.Context, *bench, bool) (map[string]figures, error) {
	return nil, errors.New("later")
}
func measureNoisy(context.Context, *bench, bool) (map[string]figures, error) {
	return nil, errors.New("later")
}
func measureEndToEnd(context.Context, *bench, bool) (map[string]figures, error) {
	return nil, errors.New("later")
}
func measureGrowth(context.Context, *bench, bool) (map[string]figures, error) {
	return nil, errors.New("later")
}
func measureSize(context.Context, *bench, bool) (map[string]figures, error) {
	return nil, errors.New("later")
}
func measureTakeOver(context.Context, *bench, bool) (map[string]figures, error) {
	return nil, errors.New("later")
}
func send(context.Context, job, func(any) error) error { return nil }
