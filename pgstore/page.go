package pgstore

// maxPage bounds what one call returns.
const maxPage = 10_000

// pageSize brings a limit into 1 to [maxPage].
func pageSize(limit int) int32 { return int32(min(max(limit, 1), maxPage)) }
