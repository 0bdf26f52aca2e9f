//go:build browser

package browsertest

import (
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

const (
	// filmWidth and filmHeight are the size of a film: as wide as README shows it.
	filmWidth, filmHeight = 800, 540
	// maxFilm is the largest film, in bytes.
	maxFilm = 1 << 20
	// maxColors is how many colors a GIF has.
	maxColors = 256
)

// Film is what somebody does in a window, as an animated picture.
type Film struct {
	w      *Window
	frames []*image.RGBA
	times  []time.Duration
}

// Film begins one. It records where somebody asks for pictures.
func (w *Window) Film() *Film { return &Film{w: w} }

// Frame takes what the window shows, for a time, with the pointer on what a selector finds; empty: without a pointer.
func (f *Film) Frame(stays time.Duration, pointer string) {
	f.w.t.Helper()
	if os.Getenv(shotsVariable) == "" {
		return
	}
	var at struct{ X, Y float64 }
	f.w.Run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "light"}}),
		chromedp.EmulateViewport(filmWidth, filmHeight))
	if pointer != "" {
		f.w.Do(chromedp.ScrollIntoView(pointer, chromedp.ByQuery), chromedp.Evaluate(`(r => ({X: r.left + r.width / 2, Y: r.top + r.height / 2}))(document.querySelector(`+"`"+pointer+"`"+`).getBoundingClientRect())`, &at))
	}
	var taken []byte
	f.w.Run(chromedp.CaptureScreenshot(&taken))
	f.w.Run(chromedp.EmulateViewport(1200, 900))
	shown, err := png.Decode(bytes.NewReader(taken))
	require.NoError(f.w.t, err)
	frame := image.NewRGBA(image.Rect(0, 0, filmWidth, filmHeight))
	for y := range filmHeight {
		for x := range filmWidth {
			frame.Set(x, y, shown.At(x, y))
		}
	}
	if pointer != "" {
		drawPointer(frame, int(at.X), int(at.Y))
	}
	f.frames, f.times = append(f.frames, frame), append(f.times, stays)
}

// Keep writes the film under a name.
func (f *Film) Keep(name string) {
	f.w.t.Helper()
	if len(f.frames) == 0 {
		return
	}
	palette := paletteOf(f.frames)
	known := map[color.RGBA]uint8{}
	film := &gif.GIF{Config: image.Config{ColorModel: palette, Width: filmWidth, Height: filmHeight}}
	for n, frame := range f.frames {
		part := frame.Bounds()
		if n > 0 {
			part = changed(f.frames[n-1], frame)
		}
		shown := image.NewPaletted(part, palette)
		for y := part.Min.Y; y < part.Max.Y; y++ {
			for x := part.Min.X; x < part.Max.X; x++ {
				c := frame.RGBAAt(x, y)
				index, ok := known[c]
				if !ok {
					index = uint8(palette.Index(c)) //nolint:gosec // there are 256
					known[c] = index
				}
				shown.SetColorIndex(x, y, index)
			}
		}
		film.Image = append(film.Image, shown)
		film.Delay = append(film.Delay, int(f.times[n]/(10*time.Millisecond)))
		film.Disposal = append(film.Disposal, gif.DisposalNone)
	}
	var out bytes.Buffer
	require.NoError(f.w.t, gif.EncodeAll(&out, film))
	require.Less(f.w.t, out.Len(), maxFilm)
	require.NoError(f.w.t, os.WriteFile(filepath.Join(os.Getenv(shotsVariable), name+".gif"), out.Bytes(), 0o600)) //nolint:gosec // the caller's own folder
}

// paletteOf are the colors that are most of the frames. Those of the edges of letters are near to them.
func paletteOf(frames []*image.RGBA) color.Palette {
	seen := map[color.RGBA]int{}
	for _, frame := range frames {
		for y := range filmHeight {
			for x := range filmWidth {
				seen[frame.RGBAAt(x, y)]++
			}
		}
	}
	most := slices.SortedFunc(maps.Keys(seen), func(a, b color.RGBA) int {
		return cmp.Or(seen[b]-seen[a], int(a.R)-int(b.R), int(a.G)-int(b.G), int(a.B)-int(b.B))
	})
	var out color.Palette
	for _, c := range most[:min(len(most), maxColors)] {
		out = append(out, c)
	}
	return out
}

// changed is where two frames differ: at least a pixel.
func changed(before, after *image.RGBA) image.Rectangle {
	out := image.Rectangle{}
	for y := range filmHeight {
		for x := range filmWidth {
			if before.RGBAAt(x, y) != after.RGBAAt(x, y) {
				out = out.Union(image.Rect(x, y, x+1, y+1))
			}
		}
	}
	if out.Empty() {
		return image.Rect(0, 0, 1, 1)
	}
	return out
}

// arrow is a pointer, a line of pixels each: X is its edge, and o its ground.
var arrow = []string{
	"X", "XX", "XoX", "XooX", "XoooX", "XooooX", "XoooooX", "XooooooX", "XoooooooX", "XooooooooX", "XoooooooooX",
	"XooooooXXXXX", "XoooXooX", "XooXXooX", "XoX  XooX", "XX   XooX", "X     XooX", "      XooX", "       XX",
}

func drawPointer(frame *image.RGBA, x, y int) {
	for dy, line := range arrow {
		for dx, c := range line {
			switch c {
			case 'X':
				frame.SetRGBA(x+dx, y+dy, color.RGBA{0x1b, 0x1f, 0x23, 0xff})
			case 'o':
				frame.SetRGBA(x+dx, y+dy, color.RGBA{0xff, 0xff, 0xff, 0xff})
			}
		}
	}
}
