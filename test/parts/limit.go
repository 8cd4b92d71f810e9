package parts

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// limitMemory bounds the memory of a running container in bytes. The page cache of the files that
// it reads counts. There is no swap beyond the limit.
func limitMemory(ctx context.Context, id string, bytes int64) (err error) {
	docker, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, docker.Close()) }()
	_, err = docker.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{
		Resources: &container.Resources{Memory: bytes, MemorySwap: bytes},
	})
	if err != nil {
		return fmt.Errorf("limit the memory of a container: %w", err)
	}
	return nil
}

// setPaused freezes all processes of a container, or lets them go on.
func setPaused(ctx context.Context, id string, paused bool) (err error) {
	docker, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, docker.Close()) }()
	if paused {
		_, err = docker.ContainerPause(ctx, id, client.ContainerPauseOptions{})
	} else {
		_, err = docker.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
	}
	if err != nil {
		return fmt.Errorf("pause a container: %w", err)
	}
	return nil
}
