package main

import (
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// environment is what the image sets. Loopback addresses, which are the program's own defaults, lead nowhere in a
// container: who reaches the others is decided by what its ports are published to.
var environment = []string{"DRAINMARK_LISTEN=:8080", "DRAINMARK_ADMIN_LISTEN=:9090", "DRAINMARK_DATA=/" + dataDir}

// labels describe the image, in the words of the OCI.
func labels(c commit) map[string]string {
	revision := c.revision
	if c.modified {
		revision += "-modified"
	}
	const prefix = "org.opencontainers.image."
	return map[string]string{
		prefix + "title":         "Drainmark",
		prefix + "description":   "Accepts writes durably, persists them exactly once, and knows at any time whether a write can be read.",
		prefix + "url":           "https://github.com/drainmark/drainmark",
		prefix + "source":        "https://github.com/drainmark/drainmark",
		prefix + "documentation": "https://github.com/drainmark/drainmark/blob/main/docs/deploying.md",
		prefix + "licenses":      "Apache-2.0",
		prefix + "version":       c.version,
		prefix + "revision":      revision,
		prefix + "created":       c.time.Format(time.RFC3339),
	}
}

// pack makes the image of one platform.
func pack(p *v1.Platform, base v1.Layer, source, binary string, c commit) (v1.Image, error) {
	program, err := programLayer(source, binary, c.time)
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		Architecture: p.Architecture, Variant: p.Variant, OS: p.OS, Created: v1.Time{Time: c.time},
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User: fmt.Sprintf("%d:%d", user, user), WorkingDir: "/", Entrypoint: []string{"/drainmark"}, Env: environment, Labels: labels(c),
			ExposedPorts: map[string]struct{}{"8080/tcp": {}, "9090/tcp": {}},
		},
	})
	if err != nil {
		return nil, err
	}
	return mutate.Append(img,
		mutate.Addendum{Layer: base, History: v1.History{Created: v1.Time{Time: time.Unix(0, 0).UTC()}, CreatedBy: "certificates, accounts and folders"}},
		mutate.Addendum{Layer: program, History: v1.History{Created: v1.Time{Time: c.time}, CreatedBy: "/drainmark " + c.version}})
}

// runnable is an image to be run. By itself the library notes in the index what an image is that is something else, and
// some engines pass over images with such a note.
type runnable struct{ v1.Image }

// ArtifactType is what the library asks.
func (runnable) ArtifactType() (string, error) { return "", nil }

// join makes the index of the images of all platforms.
func (i *image) join(platforms []string) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, platform := range platforms {
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: runnable{i.images[platform]}, Descriptor: v1.Descriptor{Platform: p}})
	}
	annotated, ok := mutate.Annotations(index, labels(i.commit)).(v1.ImageIndex)
	if !ok {
		return nil, fmt.Errorf("an index cannot be annotated")
	}
	return annotated, nil
}
