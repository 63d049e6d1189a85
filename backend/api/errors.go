package api

import "github.com/drainmark/drainmark"

// Errors of the kinds that requests cause here, as drainmark.Errorf makes them.

func invalid(format string, args ...any) error {
	return drainmark.Errorf(drainmark.KindInvalid, format, args...)
}

func notFound(format string, args ...any) error {
	return drainmark.Errorf(drainmark.KindNotFound, format, args...)
}

func methodNotAllowed(format string, args ...any) error {
	return drainmark.Errorf(drainmark.KindMethod, format, args...)
}

func mediaType(format string, args ...any) error {
	return drainmark.Errorf(drainmark.KindMediaType, format, args...)
}

func tooLarge(format string, args ...any) error {
	return drainmark.Errorf(drainmark.KindTooLarge, format, args...)
}

func tooMany(format string, args ...any) error {
	return drainmark.Errorf(drainmark.KindTooMany, format, args...)
}
