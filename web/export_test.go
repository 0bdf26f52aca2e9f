package web

// ExpectedAtEnd is what tests see of the forecast.
var ExpectedAtEnd = expectedAtEnd
